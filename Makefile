# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later

SHELL := /bin/bash
.DEFAULT_GOAL := help

# What to build: names of images or groups, separated by commas. All by default.
IMAGES ?=
# Further arguments of ansible-playbook, for instance EXTRA="-e image_compression=zlib".
EXTRA ?=
# Integration targets, or Molecule scenarios or failures, to run, separated by spaces. All by default.
TARGETS ?=
SCENARIOS ?=

export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Programs that look for Ansible collections find this one and those of the environment.
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.venv/collections
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: help images force build init validate format compare test setup-images setup-packer setup-test lint units sanity collection integration molecule scenarios e2e failures sites bench clean

help: ## Show this list
	@sed -n 's/^\([a-z0-9 -]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name text; do printf '  %-22s%s\n' "$$name" "$$text"; done

setup-images:
	@scripts/setup images '$(IMAGES)' '$(EXTRA)'

setup-packer:
	@scripts/setup images '$(IMAGES)' '-e image_backend=packer $(EXTRA)'

setup-test:
	@scripts/setup test

images: setup-images ## Build and prove the images (IMAGES=cloud-base for one, EXTRA="-e …")
	ansible-playbook build-images.yml $(if $(IMAGES),--limit '$(IMAGES)') $(EXTRA)

force: setup-images ## Build and prove the images although nothing changed (IMAGES=cloud-base for one)
	ansible-playbook build-images.yml $(if $(IMAGES),--limit '$(IMAGES)') -e image_rebuild=always $(EXTRA)

build: setup-packer ## Build the images with Packer (IMAGES=cloud-base, PACKER_LOG=1 keeps Packer's own log)
	ansible-playbook build-images.yml $(if $(IMAGES),--limit '$(IMAGES)') -e image_backend=packer $(EXTRA)

init validate format: setup-packer ## The same for packer init, packer validate and packer fmt -check
	ansible-playbook playbooks/packer_image.yml $(if $(IMAGES),--limit '$(IMAGES)') -e image_packer_command=$@ $(EXTRA)

compare: setup-packer ## Build the images both ways and compare the results (IMAGES=cloud-base)
	scripts/compare-backends '$(IMAGES)'

# sanity runs the unit tests, too.
test: setup-test ## Run every check below but the longer Molecule scenarios, the longer proofs and the benchmark
	@scripts/test e2e scenarios integration sanity lint collection

lint: setup-test ## Formatting, types, YAML, Ansible rules, licences, change log, documentation
	ruff check .
	ruff format --check .
	mypy plugins
	yamllint --strict .
	ANSIBLE_HOME=$(CURDIR)/.cache/ansible ansible-lint
	reuse lint --quiet || { reuse lint --lines; exit 1; }
	antsibull-changelog lint
	scripts/tree antsibull-docs lint-collection-docs --plugin-docs --skip-rstcheck .

units: setup-test ## Unit tests
	pytest --quiet

sanity: setup-test ## ansible-test: sanity tests, and the unit tests as Ansible runs them
	scripts/tree ansible-test sanity --python "$$(python -c 'import sys; print("%d.%d" % sys.version_info[:2])')" --color no
	scripts/tree ansible-test units --python "$$(python -c 'import sys; print("%d.%d" % sys.version_info[:2])')" --color no

collection: setup-test ## Build the collection, install it in an empty place, use it from there
	scripts/tree scripts/test-collection

integration: setup-test ## Modules against real tools (TARGETS="beegfs_stage …")
	scripts/test-integration $(TARGETS)

molecule: setup-test ## Guest roles in machines with systemd (SCENARIOS="container_runtime …")
	scripts/test-molecule $(SCENARIOS)

scenarios: setup-test ## The Molecule scenarios that make test runs
	scripts/test-molecule slurm_controller slurm_compute

e2e: setup-test ## Build, seal, inspect, pack and boot a small image
	scripts/test-end-to-end

failures: setup-test ## Boot images with one defect each, and read what is said of it (SCENARIOS="no-network …")
	scripts/test-failures $(SCENARIOS)

sites: setup-test ## Longer proofs: services of a site (mail, databases, NFS, iSCSI …) in a booted image, and a mirror that asks for certificates
	scripts/test-integration site_services tls_mirror

bench: setup-test ## Measure builds, packing and downloads against plain tools (IMAGES=hpc-controller)
	scripts/bench $(IMAGES)

clean: ## Remove what tests and builds left; with IMAGES=cloud-base this image, too. Other images, caches and .venv stay
	$(if $(IMAGES),ansible-playbook playbooks/clean_images.yml --limit '$(IMAGES)' $(EXTRA))
	rm -rf .cache build/work .mypy_cache .ruff_cache .pytest_cache
