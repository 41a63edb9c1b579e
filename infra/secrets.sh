#!/usr/bin/env bash
# Gives each of Dumont's secrets that has none its first value: made here where it can be, asked for where it cannot.
# Values go to gcloud by standard input, never by a command line. B2's come from infra/b2_setup.py.
#   infra/secrets.sh PROJECT
set -euo pipefail
[[ $# == 1 ]] || { sed -n '2,4s/^# *//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
project=$1
umask 077
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

names() {
    python3 -c 'import json, sys; print(*json.load(open(sys.argv[1]))["secrets"].values(), sep="\n")' \
        "$(dirname "${BASH_SOURCE[0]}")/declared.json"
}

# A version of a secret in this state, "" if there is none. What cannot be asked is not none: a second master key, made
# because Google did not answer, would open no snapshot that there is.
version() {
    gcloud secrets versions list "$1" --project="$project" --filter="state=$2" --limit=1 --format='value(name)' || {
        echo "whether $1 has a value cannot be asked; it stays as it is (release.py prepare makes the secrets)" >&2
        return 1
    }
}

value_of() {
    case $1 in
    dumont-ssh-private-key)
        ssh-keygen -q -t ed25519 -N '' -C dumont -f "$scratch/key" && cat "$scratch/key" ;;
    dumont-data-master-key | dumont-token-key)
        head -c 48 /dev/urandom | base64 -w 0 ;;
    dumont-slack-*)
        local said
        read -rsp "$1 (Enter if there is no Slack): " said </dev/tty
        echo >&2
        # A signing secret that nobody knows is no door; the others are not believed unless they look like Slack's.
        printf %s "${said:-none-$(head -c 32 /dev/urandom | base64 -w 0)}" ;;
    *)
        local given
        read -rsp "$1: " given </dev/tty
        echo >&2
        printf %s "$given" ;;
    esac
}

missing=0
while read -r name <&3; do
    enabled=$(version "$name" ENABLED)
    disabled=$(version "$name" DISABLED)
    if [[ -n $enabled ]]; then
        echo "$name has a value"
    elif [[ -n $disabled && $name == dumont-data-master-key ]]; then
        echo "$name is disabled, and another would open no snapshot that there is: gcloud secrets versions enable" >&2
        missing=1
    elif [[ $name == dumont-b2-* ]]; then
        echo "$name has none: run infra/b2_setup.py BUCKET --project $project" >&2
        missing=1
    else
        value_of "$name" >"$scratch/value" || true
        [[ -s $scratch/value ]] || { echo "$name: nothing was given" >&2; missing=1; continue; }
        gcloud secrets versions add "$name" --project="$project" --data-file=- <"$scratch/value" >/dev/null
        rm -f "$scratch/value"
        echo "$name has a value now"
    fi
done 3< <(names)
echo "Keep a copy of dumont-data-master-key where you keep what must not be lost: without it no snapshot opens."
exit "$missing"
