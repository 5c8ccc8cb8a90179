"""The daemon's plan on recorded clusters, beside the policies of the literature: `python -m ftsched.simulate`.

The command reads files and prints; the rooms below decide nothing that the daemon would not. Nothing outside this
package may import it.
"""
