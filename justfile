# What contributors run; CI runs .ci/run, which does the same and more.

# Builds heph as it is released.
build:
    cargo build --release --locked

# All tests.
test *ARGS:
    cargo test --workspace --locked --no-fail-fast {{ARGS}}

# Formatting and lints, as CI demands them.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings

# Formats the sources.
fmt:
    cargo fmt --all

# Compares heph with its peers; see docs/benchmarks.md.
bench *ARGS:
    benches/run {{ARGS}}

# One short run of every fuzz target.
fuzz COUNT="20000":
    for target in $(fuzz/run --list); do fuzz/run "$target" {{COUNT}}; done
