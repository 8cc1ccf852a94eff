#!/usr/bin/env bash
# Stands for gcloud: writes its arguments to $FAKE/calls, plays the states of $FAKE/states (one at each describe, the
# last one again and again; "-": no such TPU), and runs the commands of ssh in $FAKE/home, as a host would.
printf '%s\n' "$*" >> "$FAKE/calls"
for argument in "$@"; do
  case $argument in --command=*) command=${argument#--command=} ;; esac
done
case "$4 $5" in
  "describe "*)
    state=$(head -n 1 "$FAKE/states")
    [ "$(wc -l < "$FAKE/states")" = 1 ] || sed -i 1d "$FAKE/states"
    [ "$state" != - ] || { echo "ERROR: (gcloud) NOT_FOUND: not found" >&2 && exit 1; }
    echo "$state"
    ;;
  "create "*) cp "$FAKE/states-created" "$FAKE/states" ;;
  "delete "*)
    [ ! -e "$FAKE/delete-error" ] || { cat "$FAKE/delete-error" >&2 && exit 1; }
    echo - > "$FAKE/states"
    ;;
  "ssh "*)
    cd "$FAKE/home" && HOME=$FAKE/home bash -c "$command"
    code=$?
    # What happens to the TPU while its second command runs: a line of its own for each time.
    case $command in
      *ecgjax.main*)
        if [ -s "$FAKE/states-run" ]; then
          head -n 1 "$FAKE/states-run" > "$FAKE/states"
          sed -i 1d "$FAKE/states-run"
        fi
        ;;
    esac
    exit "$code"
    ;;
  "scp --recurse") cp -r "$FAKE/home/${6#*:}" "$7" ;;
  "scp "*) cp "$5" "$FAKE/home/" ;;
  *) echo "unknown: $*" >&2 && exit 64 ;;
esac
