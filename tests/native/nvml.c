/* A driver without a GPU: NVML's symbols over a scenario file, so that the daemon's real adapter can be proven anywhere.
 *
 * The file is named by the variable FTD_NVML_SCENARIO and read again whenever it has changed, so a test changes the
 * world under a running daemon. Its lines are written by nvml.py, which explains them. Signatures and layouts are those
 * that pynvml calls; numbers are NVML's. It must never be more forgiving than NVML: who asks before nvmlInit, or with
 * a wrong version or a small buffer, is told so. But for one thing: an event that came before somebody listened is kept
 * for him, so that a test need not guess when that is.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef unsigned int u32;
typedef unsigned long long u64;

enum { OK, UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND = 6, INSUFFICIENT_SIZE,
       DRIVER_NOT_LOADED = 9, TIMEOUT, GPU_IS_LOST = 15, VERSION_MISMATCH = 25 };
enum { COMPUTE, GRAPHICS, MPS };
enum { SLOTS = 32, PROCESSES = 16, LINKS = 18, FAULTS = 32, EVENTS = 64, TEXT = 96 };
enum { XID_EVENT = 8, NO_INSTANCE = -1 };
static const u32 MEMORY_V2 = 0x02000028;
static const u32 RECOVERY_FIELD = 230;

struct process { int kind; u32 pid; u64 bytes; };

/* A GPU or a MIG instance. Handles point here, so a slot keeps its UUID for as long as the library is loaded. */
struct device {
    char uuid[TEXT], name[TEXT], peers[LINKS][TEXT];
    struct device *parent;
    bool present, lost, divided;
    u32 bus, instance, pending, failure, recovery;
    u64 total, reserved, used;
    long utilisation, temperature, milliwatts, ecc_volatile, ecc_aggregate, numa, pcie_switch;
    int processes, links;
    struct process process[PROCESSES];
};
struct fault { char function[TEXT], uuid[TEXT]; int code, times; };
struct event { u32 number, instance; char uuid[TEXT]; u64 xid; };
struct event_set { bool registered[SLOTS]; };

struct memory { u32 version; u64 total, reserved, free, used; };
struct process_info { u32 pid; u64 bytes; u32 gpu_instance, compute_instance; };
struct utilisation { u32 gpu, memory; };
struct pci { char legacy[16]; u32 domain, bus, device, id, subsystem; char text[32]; };
struct field { u32 id, scope; long long timestamp, latency; u32 type; int code; union { u64 u64; u32 u32; } value; };
struct event_data { struct device *device; u64 type, data; u32 gpu_instance, compute_instance; };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct device slots[SLOTS];
static struct fault faults[FAULTS];
static struct event events[EVENTS];
static char driver[TEXT];
static int slot_count, fault_count, event_count, start_code = DRIVER_NOT_LOADED, users;
static u32 last_event, revision;

static struct device *slot(const char *uuid) {
    for (int i = 0; i < slot_count; i++)
        if (!strcmp(slots[i].uuid, uuid)) return &slots[i];
    if (slot_count == SLOTS) abort();
    strcpy(slots[slot_count].uuid, uuid);
    return &slots[slot_count++];
}

static struct device *begin(const char *uuid, struct device *parent, u32 instance) {
    struct device *d = slot(uuid);
    *d = (struct device){.present = true, .parent = parent, .instance = instance};
    strcpy(d->uuid, uuid);
    return d;
}

static void parse(const char *line, struct device **d) {
    char a[TEXT] = "", b[TEXT] = "";
    long n = 0, m = 0;
    struct process p;
    struct fault f = {0};
    struct event e = {0};
    if (sscanf(line, "driver %95s", driver) == 1) return;
    if (sscanf(line, "init %d", &start_code) == 1) return;
    if (sscanf(line, "device %95s", a) == 1) { *d = begin(a, NULL, NO_INSTANCE); return; }
    if (sscanf(line, "mig %95s %ld", a, &n) == 2) { *d = begin(a, (*d)->parent ? (*d)->parent : *d, n); return; }
    if (sscanf(line, "fail %95s %95s %d %d", f.function, f.uuid, &f.code, &f.times) == 4) { faults[fault_count++] = f; return; }
    if (sscanf(line, "event %u %95s %llu %u", &e.number, e.uuid, &e.xid, &e.instance) == 4) { events[event_count++] = e; return; }
    if (sscanf(line, "name %95[^\n]", (*d)->name) == 1) return;
    if (sscanf(line, "bus %u", &(*d)->bus) == 1) return;
    if (sscanf(line, "memory %llu %llu %llu", &(*d)->total, &(*d)->reserved, &(*d)->used) == 3) return;
    if (sscanf(line, "process %d %u %llu", &p.kind, &p.pid, &p.bytes) == 3) { (*d)->process[(*d)->processes++] = p; return; }
    if (sscanf(line, "sensors %ld %ld %ld", &(*d)->utilisation, &(*d)->temperature, &(*d)->milliwatts) == 3) return;
    if (sscanf(line, "ecc %ld %ld", &(*d)->ecc_volatile, &(*d)->ecc_aggregate) == 2) return;
    if (sscanf(line, "rows %u %u", &(*d)->pending, &(*d)->failure) == 2) return;
    if (sscanf(line, "recovery %u", &(*d)->recovery) == 1) return;
    if (sscanf(line, "place %ld %ld", &(*d)->numa, &(*d)->pcie_switch) == 2) return;
    if (sscanf(line, "nvlink %95s %ld", b, &m) == 2) { while (m-- > 0) strcpy((*d)->peers[(*d)->links++], b); return; }
    if (!strcmp(line, "lost\n")) { (*d)->lost = true; return; }
    if (!strcmp(line, "divided\n")) { (*d)->divided = true; return; }
    fprintf(stderr, "scenario: %s", line);
    abort();
}

/* Reads the scenario if its revision, the first line, is another than the last time. Without one there is no driver. */
static void refresh(void) {
    const char *path = getenv("FTD_NVML_SCENARIO");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[256];
    u32 found;
    if (!file) { start_code = DRIVER_NOT_LOADED, revision = 0; return; }
    if (!fgets(line, sizeof line, file) || sscanf(line, "revision %u", &found) != 1) abort();
    if (found != revision) {
        revision = found, fault_count = event_count = 0;
        for (int i = 0; i < slot_count; i++) slots[i].present = false;
        for (struct device *d = NULL; fgets(line, sizeof line, file);) parse(line, &d);
    }
    fclose(file);
}

static int leave(int code) { pthread_mutex_unlock(&mutex); return code; }

/* What stands in the way of a call, if anything. The lock is held until `leave`. */
static int enter(const char *function, struct device *d) {
    pthread_mutex_lock(&mutex);
    refresh();
    for (struct fault *f = faults; f < faults + fault_count; f++)
        if (!strcmp(f->function, function) && (!strcmp(f->uuid, "*") || (d && !strcmp(f->uuid, d->uuid))) && f->times) {
            f->times -= f->times > 0;
            return f->code;
        }
    if (!users) return UNINITIALIZED;
    if (d && (d->lost || !d->present || (d->parent && d->parent->lost))) return GPU_IS_LOST;
    return OK;
}

#define ENTER(device) do { int no = enter(__func__, device); if (no) return leave(no); } while (0)
#define ANSWER(target, value, type) do { \
        if ((value) < 0) return leave(NOT_SUPPORTED); \
        *(target) = (type)(value); \
        return leave(OK); \
    } while (0)

static int text(char *target, u32 size, const char *value) {
    if (strlen(value) >= size) return leave(INSUFFICIENT_SIZE);
    strcpy(target, value);
    return leave(OK);
}

int nvmlInitWithFlags(u32 flags) {
    (void)flags;
    pthread_mutex_lock(&mutex);
    refresh();
    if (start_code) return leave(start_code);
    /* What happened before nvmlInit is history. */
    if (!users++ && event_count) last_event = events[event_count - 1].number;
    return leave(OK);
}

int nvmlShutdown(void) { ENTER(NULL); users--; return leave(OK); }

const char *nvmlErrorString(int code) { static char said[32]; sprintf(said, "Code %d", code); return said; }

int nvmlSystemGetDriverVersion(char *version, u32 size) { ENTER(NULL); return text(version, size, driver); }

/* The `index`-th GPU there is (parent NULL), or instance of a GPU. */
static struct device *nth(const struct device *parent, u32 index) {
    for (int i = 0; i < slot_count; i++)
        if (slots[i].present && slots[i].parent == parent && !index--) return &slots[i];
    return NULL;
}

int nvmlDeviceGetCount_v2(u32 *count) {
    ENTER(NULL);
    for (*count = 0; nth(NULL, *count); ++*count);
    return leave(OK);
}

int nvmlDeviceGetHandleByIndex_v2(u32 index, struct device **d) {
    ENTER(NULL);
    if (!(*d = nth(NULL, index))) return leave(INVALID_ARGUMENT);
    leave(OK);
    ENTER(*d);
    return leave(OK);
}

int nvmlDeviceGetUUID(struct device *d, char *uuid, u32 size) { ENTER(d); return text(uuid, size, d->uuid); }
int nvmlDeviceGetName(struct device *d, char *name, u32 size) { ENTER(d); return text(name, size, d->name); }

int nvmlDeviceGetMemoryInfo_v2(struct device *d, struct memory *memory) {
    ENTER(d);
    if (memory->version != MEMORY_V2) return leave(VERSION_MISMATCH);
    memory->total = d->total, memory->reserved = d->reserved, memory->used = d->used;
    memory->free = d->total - d->reserved - d->used;
    return leave(OK);
}

static int list(struct device *d, int kind, u32 *count, struct process_info *infos) {
    u32 found = 0, room = *count;
    for (int i = 0; i < d->processes; i++) {
        if (d->process[i].kind != kind) continue;
        if (infos && found < room)
            infos[found] = (struct process_info){d->process[i].pid, d->process[i].bytes, d->instance, NO_INSTANCE};
        found++;
    }
    *count = found;
    return leave(found > room ? INSUFFICIENT_SIZE : OK);
}

int nvmlDeviceGetComputeRunningProcesses_v3(struct device *d, u32 *n, struct process_info *i) { ENTER(d); return list(d, COMPUTE, n, i); }
int nvmlDeviceGetGraphicsRunningProcesses_v3(struct device *d, u32 *n, struct process_info *i) { ENTER(d); return list(d, GRAPHICS, n, i); }
int nvmlDeviceGetMPSComputeRunningProcesses_v3(struct device *d, u32 *n, struct process_info *i) { ENTER(d); return list(d, MPS, n, i); }

int nvmlDeviceGetUtilizationRates(struct device *d, struct utilisation *u) { ENTER(d); ANSWER(&u->gpu, d->utilisation, u32); }
int nvmlDeviceGetPowerUsage(struct device *d, u32 *milliwatts) { ENTER(d); ANSWER(milliwatts, d->milliwatts, u32); }
int nvmlDeviceGetTemperature(struct device *d, u32 sensor, u32 *celsius) {
    ENTER(d);
    if (sensor) return leave(INVALID_ARGUMENT);
    ANSWER(celsius, d->temperature, u32);
}

int nvmlDeviceGetTotalEccErrors(struct device *d, u32 uncorrected, u32 aggregate, u64 *count) {
    ENTER(d);
    if (!uncorrected) ANSWER(count, 0, u64);
    ANSWER(count, aggregate ? d->ecc_aggregate : d->ecc_volatile, u64);
}

int nvmlDeviceGetRemappedRows(struct device *d, u32 *corrected, u32 *uncorrected, u32 *pending, u32 *failure) {
    ENTER(d);
    *corrected = *uncorrected = 0, *pending = d->pending, *failure = d->failure;
    return leave(OK);
}

int nvmlDeviceGetFieldValues(struct device *d, int count, struct field *fields) {
    ENTER(d);
    for (int i = 0; i < count; i++) {
        fields[i].code = fields[i].id == RECOVERY_FIELD ? OK : NOT_SUPPORTED;
        fields[i].value.u32 = d->recovery;
    }
    return leave(OK);
}

static int address(const struct device *d, struct pci *pci) {
    memset(pci, 0, sizeof *pci);
    pci->bus = d->bus;
    sprintf(pci->text, "00000000:%02X:00.0", d->bus);
    return leave(OK);
}

int nvmlDeviceGetPciInfo_v3(struct device *d, struct pci *pci) { ENTER(d); return address(d, pci); }

int nvmlDeviceGetTopologyCommonAncestor(struct device *a, struct device *b, u32 *level) {
    ENTER(a);
    *level = a == b ? 0 : a->pcie_switch == b->pcie_switch ? 10 : a->numa == b->numa ? 40 : 50;
    return leave(OK);
}

int nvmlDeviceGetNvLinkState(struct device *d, u32 link, u32 *active) {
    ENTER(d);
    if (!d->links) return leave(NOT_SUPPORTED);
    if (link >= LINKS) return leave(INVALID_ARGUMENT);
    *active = link < (u32)d->links;
    return leave(OK);
}

int nvmlDeviceGetNvLinkRemoteDeviceType(struct device *d, u32 link, u32 *type) {
    ENTER(d);
    if (link >= (u32)d->links) return leave(INVALID_ARGUMENT);
    *type = strcmp(d->peers[link], "switch") ? 0 : 2;
    return leave(OK);
}

int nvmlDeviceGetNvLinkRemotePciInfo_v2(struct device *d, u32 link, struct pci *pci) {
    ENTER(d);
    if (link >= (u32)d->links) return leave(INVALID_ARGUMENT);
    return address(slot(d->peers[link]), pci);
}

int nvmlDeviceGetMigMode(struct device *d, u32 *current, u32 *pending) {
    ENTER(d);
    *current = *pending = d->divided || nth(d, 0);
    return leave(OK);
}

/* One more than there are, so that who lists them meets a gap, as on a real GPU. */
int nvmlDeviceGetMaxMigDeviceCount(struct device *d, u32 *count) {
    ENTER(d);
    for (*count = 0; nth(d, *count); ++*count);
    ++*count;
    return leave(OK);
}

int nvmlDeviceGetMigDeviceHandleByIndex(struct device *d, u32 index, struct device **instance) {
    ENTER(d);
    return leave((*instance = nth(d, index)) ? OK : NOT_FOUND);
}

int nvmlDeviceGetGpuInstanceId(struct device *d, u32 *id) { ENTER(d); *id = d->instance; return leave(d->parent ? OK : NOT_SUPPORTED); }

int nvmlEventSetCreate(struct event_set **set) {
    ENTER(NULL);
    *set = calloc(1, sizeof **set);
    return leave(OK);
}

int nvmlEventSetFree(struct event_set *set) { ENTER(NULL); free(set); return leave(OK); }

int nvmlDeviceRegisterEvents(struct device *d, u64 types, struct event_set *set) {
    ENTER(d);
    if (types != XID_EVENT || d->parent) return leave(NOT_SUPPORTED);
    set->registered[d - slots] = true;
    return leave(OK);
}

/* The oldest event not told yet of a registered device. */
static bool next_event(struct event_set *set, struct event_data *data) {
    for (struct event *e = events; e < events + event_count; e++) {
        struct device *d = slot(e->uuid);
        if (e->number <= last_event || !set->registered[d - slots]) continue;
        last_event = e->number;
        *data = (struct event_data){d, XID_EVENT, e->xid, e->instance, NO_INSTANCE};
        return true;
    }
    return false;
}

int nvmlEventSetWait_v2(struct event_set *set, struct event_data *data, u32 milliseconds) {
    for (u32 waited = 0;; waited += 5) {
        ENTER(NULL);
        if (next_event(set, data)) return leave(OK);
        leave(OK);
        if (waited >= milliseconds) return TIMEOUT;
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
}
