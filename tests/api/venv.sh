#!/usr/bin/env bash
# The Python that the tests of the API run in:   tests/api/venv.sh
#
# Makes target/sdk-venv with the real inference-sdk, unmodified, and schemathesis; does nothing when it is there.
# Prints the path of its Python.
set -euo pipefail
cd "$(dirname "$0")/../.."

venv=$PWD/target/sdk-venv
wanted='inference-sdk==1.8.3 schemathesis==4.32.5 Pillow numpy<3'
made=$venv/made-for
if [[ ! -f $made || $(<"$made") != "$wanted" ]]; then
  echo "tests/api/venv.sh: making $venv, once" >&2
  rm -rf "$venv"
  python3 -m venv "$venv"
  # shellcheck disable=SC2086 # a list of words
  "$venv/bin/pip" install -q --disable-pip-version-check $wanted
  # The SDK asks for the OpenCV that wants a display's libraries; the same release without them does the same. Both
  # lie in one folder, so the first goes before the second comes.
  "$venv/bin/pip" uninstall -q -y opencv-python
  "$venv/bin/pip" install -q --disable-pip-version-check 'opencv-python-headless==4.12.0.88'
  "$venv/bin/python" -c 'import cv2, PIL, inference_sdk, schemathesis'
  echo "$wanted" >"$made"
fi
echo "$venv/bin/python"
