#!/usr/bin/env bash
# Pushes every image archive under ./containers to a registry.
#
# usage: ./scripts/upload_images.sh REGISTRY        from the root of the extracted bundle
#
# REGISTRY is a host, with a port and a path where it needs them: registry.example.com:5000/llm.
# ./containers/**/NAME__TAG.tar becomes REGISTRY/NAME:TAG with the same digest. What is there
# already is left alone; a tag that holds another image is never overwritten. Where the registry has
# something else attached to an image than the bundle, that stays, and that is no failure. Run it
# again after any failure.
#
# Log in first with `skopeo login`. Credentials are looked for where skopeo looks for them
# (REGISTRY_AUTH_FILE, ${XDG_RUNTIME_DIR}/containers/auth.json, ~/.docker/config.json), and so is
# a private CA (/etc/containers/certs.d/HOST:PORT/ca.crt). UPLOAD_TLS_VERIFY=false allows plain
# HTTP. skopeo unpacks one image at a time below ${TMPDIR:-/var/tmp}.
#
# Needs bash, skopeo and coreutils.
# Exit status: 0 all images are there, 1 some are not, 2 wrong usage.
set -euo pipefail
export LC_ALL=C

fail() {
    echo "upload_images.sh: error: $2" >&2
    exit "$1"
}

if (($# != 1)) || [[ -z $1 || $1 == -* ]]; then
    echo "usage: ./scripts/upload_images.sh REGISTRY   (as in registry.example.com:5000)" >&2
    exit 2
fi
registry=${1%/}
[[ $registry =~ ^[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]+)?(/[a-z0-9._-]+)*$ ]] ||
    fail 2 "not a registry: $1: write HOST, HOST:PORT or HOST/PATH, with no https://"
tls_verify=${UPLOAD_TLS_VERIFY:-true}
[[ $tls_verify == true || $tls_verify == false ]] ||
    fail 2 "UPLOAD_TLS_VERIFY must be true or false, not $tls_verify"
for program in skopeo tail tr sha256sum mktemp rm; do
    command -v "$program" >/dev/null || fail 1 "$program is not installed"
done
[[ -d ./containers ]] ||
    fail 1 "no ./containers here: run this from the root of the extracted bundle, not from $PWD"
shopt -s globstar nullglob
archives=(./containers/**/*.tar)
((${#archives[@]})) || fail 1 "no image archive (*.tar) under ./containers"

# skopeo does not clean up when it is killed: all its scratch is below a directory of ours.
scratch=$(mktemp -d "${TMPDIR:-/var/tmp}/upload_images.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# archive_digest FILE: the digest of the image's manifest, as the archive's own index has it.
# index.json and oci-layout are the last two members of every archive of a bundle, each behind its
# header, which begins with its name and goes on with its mode.
archive_digest() {
    local index digest
    index=$(tail --bytes=16384 "$1" | tr --delete '\0')
    [[ $index == *index.json0000644*oci-layout0000644* ]] || return 1
    index=${index##*index.json0000644}
    index=${index%%oci-layout0000644*}
    [[ $index =~ \"digest\"[[:space:]]*:[[:space:]]*\"(sha256:[0-9a-f]{64})\" ]] || return 1
    digest=${BASH_REMATCH[1]}
    # Two images in one archive: nobody could say which one the file's name means.
    [[ ! ${index#*"$digest"} =~ \"digest\" ]] || return 1
    echo "$digest"
}

# find_remote REFERENCE: sets $remote to the digest that the tag has, or to nothing. Status 1 with
# the reason in $scratch/error when the registry gives no answer.
find_remote() {
    if skopeo inspect --raw --tls-verify="$tls_verify" "docker://$1" \
        >"$scratch/manifest" 2>"$scratch/error"; then
        remote=$(sha256sum <"$scratch/manifest")
        remote=sha256:${remote%% *}
        return
    fi
    remote=''
    case $(<"$scratch/error") in
        *"manifest unknown"* | *"name unknown"* | *"unknown: "*"not found"* | \
            *"tatus code from registry 404"* | *"StatusCode: 404"*) ;;
        *) return 1 ;;
    esac
}

# push FILE REFERENCE DIGEST: status 1 with the reason in $scratch/error.
push() {
    local pushed
    skopeo --tmpdir "$scratch" copy --quiet --all --preserve-digests --retry-times 3 \
        --dest-tls-verify="$tls_verify" --digestfile "$scratch/digest" \
        "oci-archive:$1" "docker://$2" >/dev/null 2>"$scratch/error" || return 1
    pushed=$(<"$scratch/digest")
    [[ $pushed == "$3" ]] && return
    echo "pushed as $pushed, the archive says $3" >"$scratch/error"
    return 1
}

# explain: the last line of what skopeo said, shortened to its message, and what to do about it.
explain() {
    local line='' last=''
    while IFS= read -r line; do [[ -z $line ]] || last=$line; done <"$scratch/error"
    [[ ! $last =~ msg=\"(.*)\"$ ]] || last=${BASH_REMATCH[1]//\\\"/\"}
    last=${last#*Error parsing image name *: pinging container registry }
    echo "$last"
    case $last in
        *nauthorized* | *denied* | *"no basic auth"* | *"authentication required"*)
            echo "hint: log in with: skopeo login ${registry%%/*}" ;;
        *"name unknown"* | *"does not exist"*)
            echo "hint: create the repository first; Amazon ECR does not create it on push" ;;
        *x509* | *certificate*)
            echo "hint: put the registry's CA into /etc/containers/certs.d/${registry%%/*}/ca.crt" ;;
        *"server gave HTTP response"*)
            echo "hint: the registry speaks plain HTTP; UPLOAD_TLS_VERIFY=false allows it" ;;
        *"no space left"*)
            echo "hint: set TMPDIR to a directory with room for one unpacked image" ;;
    esac
}

failed=0
for archive in "${archives[@]}"; do
    base=${archive##*/}
    base=${base%.tar}
    name=${base%%__*}
    tag=${base#*__}
    if [[ $base != *__* || ! $name =~ ^[a-z0-9]+((\.|_|-+)[a-z0-9]+)*$ ]] ||
        [[ ! $tag =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$ ]]; then
        echo "FAILED    $archive: its name is not of the form NAME__TAG.tar" >&2
        failed=1
        continue
    fi
    if ! digest=$(archive_digest "$archive"); then
        echo "FAILED    $archive: not an OCI archive with one image" >&2
        failed=1
        continue
    fi
    reference=$registry/$name:$tag
    find_remote "$reference" || fail 1 "$reference: $(explain)"
    if [[ $remote == "$digest" ]]; then
        echo "present   $reference  $digest"
    elif [[ -n $remote && $tag =~ ^sha256-[0-9a-f]{64}(\.(sig|att|sbom))?$ ]]; then
        # What is about an image: a later release may have more of it, and the customer their own.
        echo "kept      $reference: holds something else attached, $remote; it stays as it is"
    elif [[ -n $remote ]]; then
        echo "CONFLICT  $reference: holds $remote, the archive holds $digest; left as it is" >&2
        failed=1
    elif push "$archive" "$reference" "$digest"; then
        echo "pushed    $reference  $digest"
    else
        echo "FAILED    $reference: $(explain)" >&2
        failed=1
    fi
done
exit "$failed"
