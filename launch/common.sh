# shellcheck shell=bash
# Functions that the launchers share: they read options, and show or run commands. Source this file.

dry_run=false
train_flags=()

fail() {
  echo "error: $*" >&2
  exit 2
}

# Prints the comment at the top of the script.
usage() {
  sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
}

# read_options "NAME ..." ARGUMENT...: --NAME=VALUE sets $NAME; arguments after -- are for the trainer.
read_options() {
  local known=" $1 " argument option
  shift
  while (($#)); do
    argument=$1
    shift
    case $argument in
      --)
        train_flags=("$@")
        return
        ;;
      --dry_run) dry_run=true ;;
      --help)
        usage
        exit 0
        ;;
      --*=*)
        option=${argument%%=*}
        option=${option#--}
        [[ $known == *" $option "* ]] || fail "unknown option --$option; see --help"
        printf -v "$option" %s "${argument#*=}"
        ;;
      *) fail "unexpected argument $argument; options are --name=value, see --help" ;;
    esac
  done
}

need() {
  local name
  for name in "$@"; do
    [[ -n ${!name} ]] || fail "--$name=... is missing; see --help"
  done
}

need_train_flags() {
  ((${#train_flags[@]})) || fail "flags of gesture_jax.train are missing: -- --config=... --workdir=..."
}

# show COMMAND...: prints it as one line that a shell reads back as the same words.
show() {
  local word line=""
  for word in "$@"; do
    [[ $word =~ ^[A-Za-z0-9_./:=@%,+-]+$ ]] || word=${word@Q}
    line+="$word "
  done
  echo "${line% }"
}

# run COMMAND...: runs it, or prints it under --dry_run.
run() {
  if [[ $dry_run == true ]]; then show "$@"; else "$@"; fi
}

# Prints the command for a remote shell that starts the trainer detached, with the given variables.
remote_start() {
  show launch/detached.sh start run env "$@" .venv/bin/python -m gesture_jax.train "${train_flags[@]}"
}

# pack FILE: writes the commit that is checked out to an archive, to be sent to hosts.
pack() {
  run mkdir -p "$(dirname "$1")"
  run git archive --format=tar.gz --prefix=gesture_jax/ --output="$1" HEAD
}
