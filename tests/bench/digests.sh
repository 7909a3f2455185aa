#!/usr/bin/env bash
# Makes of a checkpoint what a release needs, with programs that every machine has: its archive,
# and the sha256 of the archive, of each file and of each part.
# digests.sh DIRECTORY OUT PART_BYTES sha256sum|openssl [together]
set -euo pipefail
source=$1 out=$2 part=$3 program=$4 together=${5:-}
case $program in
sha256sum) hash=(sha256sum) ;;
openssl) hash=(openssl dgst -sha256 -r) ;;
*) echo "digests.sh: expected sha256sum or openssl, got $program" >&2 && exit 2 ;;
esac

archive() {
    tar --create --format=ustar --sort=name --owner=0 --group=0 --numeric-owner \
        --directory "${source%/*}" "${source##*/}" | tee "$out/archive.tar" | "${hash[@]}" >"$out/archive"
    sync "$out/archive.tar"
}

members() { find "$source" -type f -print0 | sort -z | xargs -0 "${hash[@]}" >"$out/members"; }

parts() {
    find "$source" -type f | sort | while read -r file; do
        split --bytes="$part" --filter="${hash[*]}" "$file"
    done >"$out/parts"
}

mkdir -p "$out"
if [ "$together" ]; then
    pids=()
    for job in archive members parts; do
        $job &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid"; done
else
    archive
    members
    parts
fi
