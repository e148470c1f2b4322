#!/usr/bin/env bash
# Run the quick tests and two fits with the oldest version of each dependency that pyproject.toml allows.
#
#     tests/oldest.sh [FOLDER [PYTEST ARGUMENTS]]
#
# The environment and the logs go to FOLDER, by default a temporary one that is deleted after a success.
# The last line of the output is the result. The status is 1 on a failure.
set -uo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD"

if [ $# -gt 0 ]; then
    temporary=no
    mkdir -p "$1" && folder="$(cd "$1" && pwd)" || exit 1
    shift
else
    temporary=yes
    folder="$(mktemp -d)" || exit 1
fi
python="$folder/env/bin/python"

step() { # step NAME COMMAND…: run it with its output in NAME.log; stop on a failure
    local name="$1" log="$folder/$1.log"
    shift
    echo "$name …"
    "$@" >"$log" 2>&1 && return
    tail -n 30 "$log"
    echo "oldest versions: FAILED in $name; see $log"
    exit 1
}

environment() {
    if ! uv="$(command -v uv)"; then
        python3 -m venv "$folder/uv" && "$folder/uv/bin/pip" install -q uv || return 1
        uv="$folder/uv/bin/uv"
    fi
    "$uv" venv --clear --seed --python 3.11 "$folder/env" &&
        "$uv" pip install --python "$python" --resolution lowest-direct -e '.[dev]'
}

fit() { # fit NAME CONFIG OVERRIDE…: a few steps on the CPU
    local name="$1"
    shift
    rm -rf "$folder/runs/$name"
    step "$name" "$python" -m experiments.run "$@" run_dir="$folder/runs/$name" \
        trainer.accelerator=cpu trainer.max_epochs=1 trainer.limit_train_batches=4 \
        trainer.limit_val_batches=2 trainer.limit_test_batches=2
}

step environment environment
step tests "$python" -m pytest -m "not slow and not network" "$@"
fit mnist_mlp configs/mnist_mlp.yaml
fit compiled_language_model configs/lm_char_tiny_shakespeare.yaml trainer.compile=true \
    model.width=32 model.depth=2 data.context_length=32 data.batch_size=4 data.eval_batch_size=4
tests="$(grep -E '[0-9]+ passed' "$folder/tests.log" | tail -n 1)"
torch="$("$python" -c 'import torch; print(torch.__version__)')"
[ "$temporary" = no ] || rm -rf "$folder"
echo "oldest versions: passed with torch $torch: quick tests ($tests), two fits"
