#!/usr/bin/env bash
# Everything that needs a CUDA graphics card, by itself, in under 20 minutes: the tests that touch the device, a smoke
# run of each precision, the thesis's full recipe (60 epochs over 20,000 rendered faces; over photographs too, where
# COURSE_REAL_FACES names a folder with train/, val/ and test/), its comparison with the shipped checkpoint, and every
# benchmark. Nothing is installed. Run it again and it goes on where it stopped.
#
#   tests/benchmarks/on_gpu.sh              # outputs below runs/gpu
#   tests/benchmarks/on_gpu.sh --dry-run    # every command in miniature, on the processor
#
# OUT       folder of all outputs (runs/gpu)          MINUTES  budget of the whole (19)
# PYTHON    the interpreter (python)                  FACES    faces to render and train on (20000)
# BATCH     batch size of the full recipe (32)        LPIPS_TRUNK  AlexNet's weights, see the README
#
# Written on a machine without a GPU: --dry-run has been run there, the rest has not.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2

dry=0
case "${1:-}" in
    "") ;;
    --dry-run) dry=1 ;;
    *) echo "usage: tests/benchmarks/on_gpu.sh [--dry-run]" >&2; exit 2 ;;
esac

PYTHON=${PYTHON:-python}
BATCH=${BATCH:-32}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
problems=()

if ((dry)); then
    MINUTES=${MINUTES:-120}
    OUT=${OUT:-runs/gpu-dry}
    FACES=${FACES:-32} held=8 epochs=1 device=cpu workers=1
    limit=(--limit 32) few=(--limit 4) compile=--no-compile formats="no bf16" batch=16
    export CUDA_VISIBLE_DEVICES=
else
    MINUTES=${MINUTES:-19}
    OUT=${OUT:-runs/gpu}
    FACES=${FACES:-20000} held=400 epochs=60 device=cuda workers=$(($(nproc) > 2 ? $(nproc) - 1 : 1))
    limit=() few=() compile=--compile formats="bf16 fp16 no" batch=$BATCH
    if ! name=$("$PYTHON" -c 'import sys, torch
if not torch.cuda.is_available(): sys.exit(1)
print(torch.cuda.device_count(), "x", torch.cuda.get_device_name(0), "- torch", torch.__version__)'); then
        echo "error: PyTorch sees no CUDA device here (or is not installed for $PYTHON); --dry-run tries everything" \
            "on the processor" >&2
        exit 3
    fi
    echo "$name"
fi
mkdir -p "$OUT"

left() { echo $((MINUTES * 60 - SECONDS)); } # seconds of the budget

# run NAME SECONDS COMMAND...: run it within a limit, keep its output, and go on whatever happens.
# SIGTERM lets a training save its state; the next call of this script goes on from there.
run() {
    local name=$1 most=$2
    shift 2
    ((dry)) && most=$((most * 10)) # a busy laptop may rehearse it
    (($(left) < most)) && most=$(left)
    if ((most < 10)); then
        problems+=("$name: no time left")
        return 1
    fi
    echo "== $name (at ${SECONDS} s, up to $most s)"
    timeout --signal=TERM --kill-after=30 "$most" "$@" >"$OUT/$name.log" 2>&1
    local code=$?
    tail -n 12 "$OUT/$name.log" | cut -c 1-200
    ((code)) && problems+=("$name: exit status $code, see $OUT/$name.log")
    return "$code"
}

# 1. Faces are rendered on the processor while the GPU is tested.
rendering=
if [[ ! -f $OUT/data/faces/parameters.csv ]]; then
    "$PYTHON" data/make_faces.py --out "$OUT/data/faces" --train "$FACES" --val "$held" --test "$held" \
        --workers "$workers" >"$OUT/render.log" 2>&1 &
    rendering=$!
    trap '[[ -n $rendering ]] && kill "$rendering" 2>/dev/null' EXIT
fi

# 2. Tests that touch the device.
[[ -f $OUT/tests.passed ]] || { run tests 150 "$PYTHON" -m pytest -q -x tests/engine/test_devices.py && touch "$OUT/tests.passed"; }

# 3. A smoke run of every precision, compiled.
for format in $formats; do
    [[ -f $OUT/smoke/$format/best.safetensors ]] || run "smoke-$format" 120 "$PYTHON" -m helpers.training \
        --out "$OUT/smoke/$format" --epochs 1 --limit 64 --batch-size 16 --precision "$format" $compile
done

# 4. The full recipe. What is not rendered by then is not waited for: the next call of this script renders the rest.
if [[ -n $rendering ]]; then
    while kill -0 "$rendering" 2>/dev/null && ((SECONDS < (dry ? MINUTES * 60 : 360))); do sleep 1; done
    kill "$rendering" 2>/dev/null && problems+=("rendering: not finished, trained on the shipped faces")
    wait "$rendering" 2>/dev/null
    rendering=
fi
faces=shipped
[[ -f $OUT/data/faces/parameters.csv ]] && faces=rendered
train=(-m helpers.training --epochs "$epochs" --batch-size "$batch" --save-every 500 ${limit[@]+"${limit[@]}"})
if [[ $faces == rendered ]]; then # the same validation and test faces as the shipped ones
    COURSE_DATA="$OUT/data" run "train-$faces" 360 "$PYTHON" "${train[@]}" --out "$OUT/$faces"
else
    run "train-$faces" 360 "$PYTHON" "${train[@]}" --out "$OUT/$faces"
fi
if [[ -n ${COURSE_REAL_FACES:-} ]]; then
    run train-photographs 150 "$PYTHON" "${train[@]}" --out "$OUT/photographs" --data "$COURSE_REAL_FACES"
fi

# 5. Their tables, and whether the shipped checkpoint should make room.
measure() { # FOLDER DATA...
    local folder=$1
    shift
    [[ -f $OUT/$folder/best.safetensors ]] || return
    run "metrics-$folder" 120 "$PYTHON" -m helpers.evaluation --checkpoint "$OUT/$folder/best.safetensors" "$@" \
        ${few[@]+"${few[@]}"}
    run "compare-$folder" 120 "$PYTHON" -m tests.benchmarks.compare "$OUT/$folder/best.safetensors" "$@" \
        ${few[@]+"${few[@]}"} --out "$OUT/compare-$folder.json"
}
measure "$faces"
[[ -n ${COURSE_REAL_FACES:-} ]] && measure photographs --data "$COURSE_REAL_FACES"

# 6. Benchmarks, the most important first; what was measured by an earlier call is not measured again.
quick=()
((dry)) && quick=(--quick)
for part in training ladder peak shares trace evaluation layers sweep pipeline start folder processes; do
    grep -q "^ \"$part\": {" "$OUT/benchmarks_gpu.json" 2>/dev/null ||
        run "benchmark-$part" 240 "$PYTHON" -m tests.benchmarks "$part" --device "$device" \
            --out "$OUT/benchmarks_gpu.json" ${quick[@]+"${quick[@]}"}
done

echo
echo "after $SECONDS s; everything is below $OUT:"
echo "  benchmarks_gpu.json, .md         copy both to data/results/ to record them"
echo "  $faces/best.safetensors          history.jsonl beside it; store it as data/README.md says, if it is better"
grep "the new checkpoint" "$OUT"/compare-*.log 2>/dev/null | sed 's/^/  /'
if ((${#problems[@]})); then
    printf 'not done:\n'
    printf '  %s\n' "${problems[@]}"
    exit 1
fi
