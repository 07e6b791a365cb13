#!/usr/bin/env bash
# Build Horovod against the TensorFlow of a virtual environment. `--help` says how.
set -euo pipefail

HOROVOD=0.28.1
CHANGES=tfopt.1 # of the source that --busy-cores builds; that build is version $HOROVOD+$CHANGES
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Versions of what builds it: Horovod's setup.py needs distutils, its CMake files need CMake 3.
TOOLS=("setuptools==80.9.0" "wheel==0.45.1" "packaging" "cmake==3.31.6")
RUNTIME=("cloudpickle" "psutil" "PyYAML" "packaging")

usage() {
    cat <<'TEXT'
Build Horovod 0.28.1 against the TensorFlow that is installed beside it (3 minutes on two cores).
Its source is that of the release; headers that TensorFlow 2.21 does not ship are supplied empty.

    scripts/install_horovod.sh [--busy-cores] [--mpi | --no-mpi] [--gpu] [--python PATH]
                               [--constraint FILE] [--force]

  --busy-cores   Change the communication loop first, so that it takes less of the cores that train:
                 version 0.28.1+tfopt.1. Measured on one machine with two cores, run on no cluster;
                 docs/horovod.md says when to choose it. All hosts need the same build.
  --mpi          Build the MPI controller and operations too; fail if there is no MPI compiler.
  --no-mpi       Leave MPI out. Neither: MPI is built if mpicxx is there.
                 Debian: apt-get install openmpi-bin libopenmpi-dev
  --gpu          Reduce on GPUs with NCCL. Needs the CUDA toolkit (nvcc; HOROVOD_CUDA_HOME, default
                 /usr/local/cuda) and NCCL's header and library (apt: libnccl-dev; or HOROVOD_NCCL_HOME).
                 The allreduce inside XLA programs is left out: TensorFlow ships no headers for it.
                 This path was written from Horovod's build files and has not been run.
  --python PATH  The interpreter to build for. Default: .venv/bin/python of this project, else python3.
  --constraint FILE
                 Versions of the packages that Horovod needs (pip's format). Default: constraints.txt
                 of this project.
  --force        Build again, although a build that fits is there. (A build of the other source, for
                 another TensorFlow, or without a part that is asked for is replaced anyway.)
  -h, --help     This text.

Gloo (TCP) is always built. MAKEFLAGS (default -jN, N = cores) sets the number of compilers.
TMPDIR needs 1 GB. The build is checked with two processes before it counts as installed.
Exit codes: 0 installed, or there already; 1 the build failed; 2 bad usage; 5 something is missing.
TEXT
}

fail() { # code, message...
    local code=$1
    shift
    printf 'error: %s\n' "$@" >&2
    exit "$code"
}

mpi=auto gpu=no python= constraints= force=no wanted=$HOROVOD
while [ $# -gt 0 ]; do
    case $1 in
        --busy-cores) wanted=$HOROVOD+$CHANGES ;;
        --mpi) mpi=yes ;;
        --no-mpi) mpi=no ;;
        --gpu) gpu=yes ;;
        --force) force=yes ;;
        --python)
            [ $# -ge 2 ] || fail 2 "--python needs the path of an interpreter."
            python=$2
            shift
            ;;
        --constraint)
            [ $# -ge 2 ] || fail 2 "--constraint needs the path of a file in pip's format."
            [ -f "$2" ] || fail 2 "--constraint $2 is not a file."
            constraints=$2
            shift
            ;;
        -h | --help)
            usage
            exit 0
            ;;
        *) fail 2 "$1 is not an option. See scripts/install_horovod.sh --help" ;;
    esac
    shift
done

if [ -z "$python" ]; then
    python=$ROOT/.venv/bin/python
    [ -x "$python" ] || python=$(command -v python3) || fail 5 "No Python was found. Run make setup first, or give --python PATH."
fi
command -v "$python" >/dev/null || fail 5 "$python is not a program. Give --python the path of an interpreter."
python=$(command -v "$python")

# --- what must be there -----------------------------------------------------------------------

version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || fail 5 "$python does not run as Python."
case $version in
    3.11 | 3.12 | 3.13) ;;
    *) fail 5 "tfopt needs Python 3.11 to 3.13; $python is Python $version." ;;
esac
# distutils left Python in 3.12, and `horovodrun` imports it at run time: setuptools brings it back.
[ "$version" = 3.11 ] || RUNTIME+=("setuptools==80.9.0")
tensorflow=$("$python" -c 'from importlib.metadata import version; print(version("tensorflow"))' 2>/dev/null) ||
    fail 5 "$python has no TensorFlow, and Horovod is built against one. Run make setup first, or: $python -m pip install 'tensorflow>=2.19,<2.22'"
missing=()
for tool in g++ make; do command -v $tool >/dev/null || missing+=("$tool"); done
[ ${#missing[@]} -eq 0 ] || fail 5 "No ${missing[*]} was found, and Horovod is C++. Debian: apt-get install g++ make"
if [ $mpi = auto ]; then
    if command -v mpicxx >/dev/null; then mpi=yes; else mpi=no; fi
elif [ $mpi = yes ] && ! command -v mpicxx >/dev/null; then
    fail 5 "--mpi needs mpicxx, and there is none. Debian: apt-get install openmpi-bin libopenmpi-dev"
fi
if [ $gpu = yes ]; then
    cuda=${HOROVOD_CUDA_HOME:-/usr/local/cuda}
    [ -x "$cuda/bin/nvcc" ] || fail 5 "--gpu needs the CUDA toolkit, and $cuda/bin/nvcc is not there. Set HOROVOD_CUDA_HOME to where it is."
    nccl=${HOROVOD_NCCL_HOME:-/usr}
    [ -n "$(find -L "$nccl" -name nccl.h -print -quit 2>/dev/null)" ] || fail 5 "--gpu needs NCCL, and no nccl.h is under $nccl. Debian: apt-get install libnccl2 libnccl-dev; or set HOROVOD_NCCL_HOME."
fi

# --- is it there already? -----------------------------------------------------------------------

# Prints what is built, or fails with the reason why it does not do.
examine() {
    "$python" - "$wanted" "$tensorflow" $mpi $gpu <<'PYTHON' 2>/dev/null
import json
import pathlib
import sys
from importlib.metadata import version

wanted, tensorflow, mpi, gpu = sys.argv[1:]
try:
    import horovod
    import horovod.tensorflow as hvd
except Exception as error:
    sys.exit(print(f"horovod cannot be imported: {error}") or 1)
built_for = json.loads((pathlib.Path(horovod.__file__).parent / "metadata.json").read_text())
parts = {"gloo": hvd.gloo_built(), "mpi": hvd.mpi_built(), "nccl": hvd.nccl_built()}
needed = ["gloo", *(["mpi"] if mpi == "yes" else []), *(["nccl"] if gpu == "yes" else [])]
text = f"horovod {version('horovod')} built for TensorFlow {built_for.get('tensorflow')} with " + ", ".join(
    name for name, is_built in parts.items() if is_built
)
print(text)
fits = (version("horovod"), built_for.get("tensorflow")) == (wanted, tensorflow)
sys.exit(0 if fits and all(parts[name] for name in needed) else 1)
PYTHON
}

if [ $force = no ] && found=$(TF_CPP_MIN_LOG_LEVEL=3 examine); then
    echo "$found is installed already: nothing to do (--force builds it again)."
    exit 0
elif [ $force = no ] && [[ ${found:-} == "horovod "[0-9]* ]]; then
    echo "replacing: $found"
fi

# --- build ------------------------------------------------------------------------------------

work=$(mktemp -d "${TMPDIR:-/tmp}/tfopt-horovod.XXXXXX")
log=$work/build.log
keep=no
clean() { [ $keep = yes ] || rm -rf "$work"; }
trap clean EXIT
trap 'exit 130' INT TERM

# xla_mpi_ops.cc includes headers that TensorFlow 2.21 moved or does not ship, and uses them only
# where HAVE_GPU is true. Empty ones, found first, let it compile to nothing.
overlay=$work/headers
for header in tf2xla/xla_op_kernel.h tf2xla/xla_op_registry.h xla/client/xla_builder.h xla/service/custom_call_target_registry.h \
    xla/service/hlo.pb.h xla/shape.h xla/xla_data.pb.h; do
    mkdir -p "$overlay/tensorflow/compiler/$(dirname $header)"
    : >"$overlay/tensorflow/compiler/$header"
done
if [ $gpu = yes ]; then
    printf '#undef HAVE_GPU\n#define HAVE_GPU 0\n' >"$overlay/tensorflow/compiler/tf2xla/xla_op_kernel.h"
    # What mpi_ops.cc needs on a GPU did move, one folder up.
    mkdir -p "$overlay/tensorflow/compiler/xla/stream_executor"
    echo '#include "xla/stream_executor/stream.h"' >"$overlay/tensorflow/compiler/xla/stream_executor/stream.h"
fi

if [ -z "$constraints" ] && [ -f "$ROOT/constraints.txt" ]; then constraints=$ROOT/constraints.txt; fi
constraint=(${constraints:+--constraint "$constraints"})
echo "building horovod $wanted for TensorFlow $tensorflow in $python: gloo$([ $mpi = no ] || echo ", mpi")$([ $gpu = no ] || echo ", nccl") (about 3 minutes)"
build() {
    # The tools lie in a folder of their own: the environment keeps its setuptools and gets no CMake.
    "$python" -m pip install --quiet --target "$work/tools" "${TOOLS[@]}"
    "$python" -m pip install --quiet "${constraint[@]}" "${RUNTIME[@]}"
    export HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITHOUT_PYTORCH=1 HOROVOD_WITHOUT_MXNET=1 HOROVOD_WITH_GLOO=1
    if [ $mpi = yes ]; then export HOROVOD_WITH_MPI=1; else export HOROVOD_WITHOUT_MPI=1 HOROVOD_CPU_OPERATIONS=GLOO; fi
    if [ $gpu = yes ]; then export HOROVOD_GPU_OPERATIONS=NCCL HOROVOD_CUDA_HOME="$cuda" HOROVOD_NCCL_HOME="$nccl"; fi
    export PYTHONPATH=$work/tools PATH=$work/tools/bin:$PATH HOROVOD_CMAKE=$work/tools/bin/cmake
    export CXXFLAGS="-iquote $overlay ${CXXFLAGS:-}" MAKEFLAGS=${MAKEFLAGS:--j$(nproc)}
    "$python" -m pip download --no-build-isolation --no-deps --no-binary horovod --dest "$work" "horovod==$HOROVOD"
    tar -xzf "$work/horovod-$HOROVOD.tar.gz" -C "$work"
    unset HOROVOD_LOCAL_VERSION # what Horovod's setup.py puts behind the version
    if [ "$wanted" != $HOROVOD ]; then
        "$python" "$ROOT/scripts/horovod/change_source.py" "$work/horovod-$HOROVOD"
        export HOROVOD_LOCAL_VERSION=$CHANGES
    fi
    "$python" -m pip wheel --no-build-isolation --no-deps --wheel-dir "$work/wheel" "$work/horovod-$HOROVOD"
    unset PYTHONPATH
    "$python" -m pip install --quiet --no-deps --force-reinstall "$work"/wheel/horovod-*.whl
}
if ! (set -e; build) >"$log" 2>&1; then
    keep=yes
    tail -n 25 "$log" >&2
    fail 1 "The build of Horovod failed; the whole log is $log" \
        "tfopt works without Horovod: HOROVOD=no make setup leaves it out."
fi

# --- is it true? ------------------------------------------------------------------------------

found=$(TF_CPP_MIN_LOG_LEVEL=3 examine) || fail 1 "The build was installed, but is not what was asked for: ${found:-nothing is printed}"
cat >"$work/two.py" <<'PYTHON'
import horovod.tensorflow as hvd
import tensorflow as tf

hvd.init()
total = float(hvd.allreduce(tf.constant(float(hvd.rank() + 1)), op=hvd.Sum))
if (hvd.size(), total) != (2, 3.0):
    raise SystemExit(f"expected 2 ranks whose numbers 1 and 2 sum to 3; got {hvd.size()} and {total}")
PYTHON
# On the CPU, also where NCCL is built: two processes cannot share one GPU.
if ! TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES= timeout 120 "$python" -m horovod.runner.launch \
    --gloo -np 2 -H localhost:2 "$python" "$work/two.py" >"$work/two.log" 2>&1; then
    tail -n 15 "$work/two.log" >&2
    fail 1 "Horovod was built, but two processes on this machine cannot sum a number."
fi
echo "$found is installed; two processes summed a number."
