# What people type. The work is done by cargo and by the scripts in .ci, which run without make too.

.DEFAULT_GOAL := help
.PHONY: help demo django celery test pictures check fmt deny doc dist ci bench soak faults

help: ## This list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 14

demo: ## The story: songs are analysed and clustered; FOLDER=path for your own audio files
	@test -x target/release/songs || echo "The first run compiles for some minutes; after that the demo takes seconds."
	cargo run --release --locked -p songs -- $(if $(FOLDER),"$(FOLDER)")

django: ## The story as a Django project, told twice: with our worker, and with Celery's
	.ci/django

celery: ## Celery's own tests with our broker, then each version and pool; QUICK=1 for a share of the tests
	.ci/celery $(if $(QUICK),quick)
	$(if $(QUICK),,CELERIAC_BINARY="$(CURDIR)/target/debug/celeriac" .ci/celery-versions)

test: ## Every test that guards a change
	.ci/test

pictures: ## A picture of each page of the dashboard, in target/pictures
	cargo build --package celeriac --locked
	.ci/browser pictures

check: ## Format, lints, documentation, dependencies
	.ci/check

fmt: ## Format the code
	cargo fmt --all

doc: ## The crates' documentation, in target/doc
	cargo doc --workspace --no-deps --locked

dist: ## The files of a release, in target/dist: archive, Debian package, wheel, debug information
	.ci/dist

deny: ## Dependencies: faults, licences, sources
	.ci/deny

bench: ## Ours against its peers; ROUNDS=n, ONLY=name,name, QUICK=1; the report is in target/bench
	cargo run --release --locked -p celeriac-bench -- compare

soak: ## Ten minutes of load while workers and the broker are killed, frozen and cut off; MINUTES=n for another span
	cargo run --release --locked -p celeriac-bench -- soak --minutes $(or $(MINUTES),10)

faults: ## Every fault for long, and a table of what came of it; RUNS=n times each, ONLY=name,name, SEED=n
	cargo run --release --locked -p celeriac-tests --bin celeriac-faults

ci: ## What runs on every change: check, then test
	.ci/run
