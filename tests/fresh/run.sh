#!/usr/bin/env bash
# Runs the README's commands where nothing is installed but Python, make and git: as a new user does, and after first
# tries that were interrupted. Needs a Docker engine. Takes the committed tree of this checkout.
#
#   FRESH_IMAGE     the bare image, with Python 3.11 or newer and apt; what it takes to reach the package registries (a
#                   proxy, certificates) is in it or in FRESH_OPTIONS
#   FRESH_OPTIONS   options of `docker run`, such as "--env PIP_INDEX_URL=..." or "--network host"
#   FRESH_COMMANDS  what must pass, separated by commas
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

image=${FRESH_IMAGE:-python:3.13-slim}
read -ra options <<<"${FRESH_OPTIONS:-}"
IFS=, read -ra commands <<<"${FRESH_COMMANDS:-make demo,make test}"
work=$(mktemp -d)
machine=

remove_machine() {
  [ -z "$machine" ] || docker rm --force --volumes "$machine" >/dev/null
  machine=
}
trap 'remove_machine; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

say() { printf '\n=== %s\n' "$*"; }
fail() { say "FAILED: $*"; exit 1; }

bare_machine() { # bare_machine: a container of our own in $machine, with make, git and the checkout
  remove_machine
  machine=$(docker run --detach --init ${options[@]+"${options[@]}"} "$image" sleep infinity)
  docker cp "$work/tree.bundle" "$machine:/tmp/tree.bundle" >/dev/null
  inside 'apt-get update -qq && apt-get install -y -qq --no-install-recommends make git >/dev/null 2>&1
    rm -rf /var/lib/apt/lists/* && git -c advice.detachedHead=false -c init.defaultBranch=main clone --quiet /tmp/tree.bundle ~/aftercommit'
  inside '! command -v postgres && ! command -v rabbitmq-server && ! command -v erl && ! ls /usr/lib/postgresql 2>/dev/null' \
    || fail "$image is not bare"
}

inside() { docker exec "$machine" bash -c "$1"; }

must_pass() { # must_pass COMMAND
  local started=$SECONDS
  say "$1"
  # The engine answers 0 also when it lost sight of the command: only what the command leaves behind counts.
  inside "cd ~/aftercommit && $1 && touch /tmp/passed" && inside 'rm /tmp/passed' \
    || { docker top "$machine" || true; fail "$1"; }
  say "passed in $((SECONDS - started)) s: $1"
}

interrupted() { # interrupted HOW TEXT [SECONDS]: starts `make demo`, interrupts it once its output holds TEXT, or later
  local log=$work/interrupted.log started=$SECONDS
  say "make demo, with $1 at \"$2\""
  # As a terminal does: make leads a process group, and Ctrl-C goes to all of it.
  docker exec "$machine" bash -c 'set -m; cd ~/aftercommit; make demo & echo $! >/tmp/make.pid; wait $!' >"$log" 2>&1 &
  local try=$!
  until grep -q "$2" "$log"; do
    kill -0 "$try" 2>/dev/null || { cat "$log"; fail "it ended before \"$2\""; }
    [ $((SECONDS - started)) -lt 600 ] || { cat "$log"; fail "never came to \"$2\""; }
    sleep 0.1
  done
  sleep "${3:-0}"
  case $1 in
    Ctrl-C) inside 'kill -INT -- -$(cat /tmp/make.pid)' ;;
    SIGTERM) inside 'kill -TERM -- -$(cat /tmp/make.pid)' ;;
    power-loss) docker kill "$machine" >/dev/null ;;
  esac
  if wait "$try"; then fail "it passed although it was interrupted"; fi
  tail -n 3 "$log"
  if [ "$1" = power-loss ]; then
    docker start "$machine" >/dev/null
  else
    inside '[ ! -e /usr/sbin/policy-rc.d ]' || fail "the package tool's policy stayed behind"
    inside '[ ! -e ~/aftercommit/.aftercommit/postgres ]' || fail "a data folder stayed behind"
  fi
}

git bundle create --quiet "$work/tree.bundle" HEAD

bare_machine
for command in "${commands[@]}"; do must_pass "$command"; done

bare_machine
interrupted Ctrl-C "^Get:"
interrupted SIGTERM "^Unpacking"
must_pass "make demo"

bare_machine
interrupted power-loss "pip install" 5
interrupted power-loss "^Unpacking erlang"
interrupted power-loss "^Setting up"
interrupted power-loss "PostgreSQL is in"
must_pass "make demo"

say "passed on $image"
