#!/bin/sh
# Makes an environment for each peer in .bench/peers, with the versions pinned in bench/peers/*.txt.
# A peer that cannot be installed is no error: its log stays, and the table shows its last line.
set -eu
python="${1:?usage: setup_peers.sh PYTHON}"
peers=.bench/peers
mkdir -p "$peers"
for pins in bench/peers/*.txt; do
    name=$(basename "$pins" .txt)
    if cmp -s "$pins" "$peers/$name/pins.txt"; then
        continue
    fi
    echo "installing $name"
    rm -rf "${peers:?}/$name"
    if "$python" -m venv "$peers/$name" >"$peers/$name.log" 2>&1 &&
        "$peers/$name/bin/pip" install --quiet --no-deps -r "$pins" >>"$peers/$name.log" 2>&1; then
        cp "$pins" "$peers/$name/pins.txt"
    else
        rm -rf "${peers:?}/$name"
        echo "  it did not install; see $peers/$name.log"
    fi
done
