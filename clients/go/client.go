package finetuned

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "finetuned.dev/go/finetuned/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// Client is a connection to one daemon.
type Client struct {
	connection *grpc.ClientConn
	patience   time.Duration

	jobs      v1.JobServiceClient
	metrics   v1.MetricServiceClient
	host      v1.HostServiceClient
	data      v1.DatasetServiceClient
	artifacts v1.ArtifactServiceClient
	chat      v1.ChatServiceClient
}

// Option changes how a Client connects.
type Option func(*settings)

type settings struct {
	patience  time.Duration
	token     string
	transport credentials.TransportCredentials
	dial      []grpc.DialOption
}

// WithPatience says how long a stream that lost the daemon tries to find it again. Default: 2 minutes.
func WithPatience(patience time.Duration) Option {
	return func(s *settings) { s.patience = patience }
}

// WithTLS speaks TLS, for a daemon behind a proxy that ends it. Default: plain text, as on a unix socket.
func WithTLS(config *tls.Config) Option {
	return func(s *settings) { s.transport = credentials.NewTLS(config) }
}

// WithToken says who the caller is, to a proxy that asks: it is sent as "authorization: Bearer". It goes through TLS or a unix socket
// only. Default: FTD_TOKEN.
func WithToken(token string) Option {
	return func(s *settings) { s.token = token }
}

// WithDialOptions passes options on to grpc, e.g. interceptors, credentials for each call, or OpenTelemetry's stats handler.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(s *settings) { s.dial = append(s.dial, options...) }
}

// Calls that change nothing, or carry a key that makes them safe to repeat, are repeated while the daemon is away.
const serviceConfig = `{"methodConfig": [{
	"name": [
		{"service": "finetuned.v1.JobService", "method": "CreateJob"},
		{"service": "finetuned.v1.JobService", "method": "GetJob"},
		{"service": "finetuned.v1.JobService", "method": "ListJobs"},
		{"service": "finetuned.v1.JobService", "method": "ExplainJob"},
		{"service": "finetuned.v1.JobService", "method": "PlanJob"},
		{"service": "finetuned.v1.JobService", "method": "WaitJob"},
		{"service": "finetuned.v1.HostService", "method": "GetHost"},
		{"service": "finetuned.v1.HostService", "method": "GetQueue"},
		{"service": "finetuned.v1.HostService", "method": "ListProjects"},
		{"service": "finetuned.v1.DatasetService", "method": "GetDataReport"},
		{"service": "finetuned.v1.DatasetService", "method": "PreviewData"},
		{"service": "finetuned.v1.DatasetService", "method": "GetUpload"},
		{"service": "finetuned.v1.DatasetService", "method": "ListDatasets"},
		{"service": "finetuned.v1.DatasetService", "method": "GetDataset"},
		{"service": "finetuned.v1.ArtifactService", "method": "ListArtifacts"}
	],
	"retryPolicy": {
		"maxAttempts": 6,
		"initialBackoff": "0.1s",
		"maxBackoff": "1.6s",
		"backoffMultiplier": 2,
		"retryableStatusCodes": ["UNAVAILABLE"]
	}
}]}`

// The retry policy's attempts; grpc allows five without being told.
const maxAttempts = 6

// New connects to the daemon at address, e.g. "unix:/run/finetuned/ftd.sock"; "" is FTD_ADDRESS, or the first socket of those that
// the daemon makes by default at which somebody listens. It fails with ErrUnavailable if nobody listens at a unix socket; other
// addresses are tried by the first call.
func New(address string, options ...Option) (*Client, error) {
	chosen := settings{patience: 2 * time.Minute, token: os.Getenv("FTD_TOKEN"), transport: insecure.NewCredentials()}
	for _, option := range options {
		option(&chosen)
	}
	addresses := []string{address}
	if address == "" {
		addresses = DefaultAddresses()
	}
	address, err := firstListening(addresses)
	if err != nil {
		return nil, err
	}
	connection, err := grpc.NewClient(address, append(dialOptions(address, &chosen), chosen.dial...)...)
	if err != nil {
		return nil, fmt.Errorf("the address %q cannot be used: %w", address, err)
	}
	return &Client{
		connection: connection,
		patience:   chosen.patience,
		jobs:       v1.NewJobServiceClient(connection),
		metrics:    v1.NewMetricServiceClient(connection),
		host:       v1.NewHostServiceClient(connection),
		data:       v1.NewDatasetServiceClient(connection),
		artifacts:  v1.NewArtifactServiceClient(connection),
		chat:       v1.NewChatServiceClient(connection),
	}, nil
}

// Close ends every call and stream that is open.
func (c *Client) Close() error {
	return c.connection.Close()
}

// DefaultAddresses tells where New looks for the daemon: FTD_ADDRESS alone if it is set, else the sockets it makes by default.
func DefaultAddresses() []string {
	if given := os.Getenv("FTD_ADDRESS"); given != "" {
		return []string{given}
	}
	var folders []string
	if runtime := os.Getenv("XDG_RUNTIME_DIR"); runtime != "" {
		folders = append(folders, runtime)
	}
	if state := os.Getenv("XDG_STATE_HOME"); state != "" {
		folders = append(folders, state)
	} else if home, err := os.UserHomeDir(); err == nil {
		folders = append(folders, filepath.Join(home, ".local/state"))
	}
	var addresses []string
	for _, folder := range append(folders, "/run") {
		addresses = append(addresses, "unix:"+filepath.Join(folder, "finetuned/ftd.sock"))
	}
	return addresses
}

// token goes with each call.
type token struct {
	text  string
	local bool
}

func (t token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + t.text}, nil
}

// RequireTransportSecurity keeps the token off the network in plain text: grpc refuses to connect so.
func (t token) RequireTransportSecurity() bool { return !t.local }

func dialOptions(address string, chosen *settings) []grpc.DialOption {
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(chosen.transport),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithMaxCallAttempts(maxAttempts),
		grpc.WithUserAgent("finetuned-go"),
		// A daemon on another host that dies silently is noticed within 40 s. The daemon welcomes a ping each 15 s.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		// A daemon that is restarted is back in no time.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
	}
	if chosen.token != "" {
		local := strings.HasPrefix(address, "unix:")
		options = append(options, grpc.WithPerRPCCredentials(token{chosen.token, local}))
	}
	return options
}

// firstListening is the first address at which somebody listens, as far as that can be told without a call.
func firstListening(addresses []string) (string, error) {
	var tried []string
	for _, address := range addresses {
		if strings.HasPrefix(address, "/") {
			address = "unix:" + address
		}
		outcome := probe(address)
		if outcome == nil {
			return address, nil
		}
		tried = append(tried, fmt.Sprintf("%s (%v)", address, outcome))
	}
	return "", unavailable("tried " + strings.Join(tried, "; "))
}

func probe(address string) error {
	path, isUnix := strings.CutPrefix(address, "unix:")
	if !isUnix {
		return nil
	}
	connection, err := net.DialTimeout("unix", strings.TrimPrefix(path, "//"), 2*time.Second)
	if err != nil {
		return err
	}
	return connection.Close()
}

// Calls without a deadline of their own may take so long; looks at data load a tokenizer, and may wait for others.
const (
	callTimeout    = 30 * time.Second
	previewTimeout = 180 * time.Second
)

// call makes one call within its time, and gives its error a kind.
func call[Request, Response any](
	ctx context.Context,
	method func(context.Context, *Request, ...grpc.CallOption) (*Response, error),
	request *Request,
	timeout time.Duration,
) (*Response, error) {
	if _, given := ctx.Deadline(); !given {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	response, err := method(ctx, request)
	if err != nil {
		return nil, toError(err, requestID(request))
	}
	return response, nil
}

func requestID(request any) string {
	if keyed, ok := request.(interface{ GetRequestId() string }); ok {
		return keyed.GetRequestId()
	}
	return ""
}
