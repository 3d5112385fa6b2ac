#!/usr/bin/env bash
# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Three jobs, each of which starts only when the one before has ended well. Run it where you would run sbatch.
set -euo pipefail

common=(--parsable --ntasks=1 --mem=128M --time=00:05:00 --output=pipeline-%j.out)
prepare=$(sbatch "${common[@]}" --job-name=prepare --wrap='seq 1 10 >pipeline.input')
compute=$(sbatch "${common[@]}" --job-name=compute --dependency="afterok:$prepare" --wrap='tail -n 1 pipeline.input >pipeline.last')
collect=$(sbatch "${common[@]}" --job-name=collect --dependency="afterok:$compute" --wrap='cp pipeline.last pipeline.result')
printf '%s %s %s\n' "$prepare" "$compute" "$collect"
