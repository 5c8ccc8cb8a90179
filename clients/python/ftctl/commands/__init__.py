"""The commands of `ftctl`, grouped by what they are about."""
