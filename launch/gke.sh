#!/usr/bin/env bash
# Trains on TPU slices on Google Kubernetes Engine, with xpk or with your own JobSet.
#
#   launch/gke.sh ACTION --name=NAME [OPTIONS] [--dry_run] [-- TRAIN_FLAGS]
#
# Actions:
#   image      builds this checkout's image and pushes it: --image
#   xpk        submits with xpk: --image --cluster --zone [--project] [--type=v5litepod-16]
#   manifest   prints the JobSet: --image [--topology=4x4] [--hosts=4] [--chips=4, per host]
#              [--accelerator=tpu-v5-lite-podslice]
#   apply      submits that JobSet with kubectl
#   logs       follows the log of the first process
#   delete     deletes the JobSet
# --restarts=20: how often it is restarted, from its last checkpoint.
set -euo pipefail
here=$(dirname "$0")
# shellcheck source=launch/common.sh
source "$here/common.sh"

action=${1:---help}
if [[ $action == --help ]]; then
  usage
  exit 0
fi
shift
name="" image="" cluster="" zone="" project="" type=v5litepod-16 restarts=20
topology=4x4 hosts=4 chips=4 accelerator=tpu-v5-lite-podslice
read_options "name image cluster zone project type restarts topology hosts chips accelerator" "$@"
need name
# One process per host; JAX asks the cluster for the addresses of the others.
train=(env JAX_NUM_PROCESSES=auto python -m gesture_jax.train "${train_flags[@]}")

image() {
  need image
  run docker build --file=launch/Dockerfile --build-arg=DEVICE=tpu --tag="$image" .
  run docker push "$image"
}

submit() {
  local place=(--zone="$zone")
  need image cluster zone
  need_train_flags
  [[ -z $project ]] || place+=(--project="$project")
  run xpk workload create --cluster="$cluster" "${place[@]}" --workload="$name" --tpu-type="$type" \
    --num-slices=1 --docker-image="$image" --max-restarts="$restarts" \
    --command="$(show "${train[@]}")"
}

manifest() {
  local text word command=""
  need image
  need_train_flags
  # YAML puts words in single quotes, and doubles quotes inside.
  for word in "${train[@]}"; do
    command+=", '${word//\'/\'\'}'"
  done
  command="[${command#, }]"
  text=$(<"$here/jobset.yaml")
  text=${text//@name@/"$name"}
  text=${text//@restarts@/"$restarts"}
  text=${text//@hosts@/"$hosts"}
  text=${text//@chips@/"$chips"}
  text=${text//@accelerator@/"$accelerator"}
  text=${text//@topology@/"$topology"}
  text=${text//@image@/"$image"}
  text=${text//@command@/"$command"}
  echo "$text"
}

apply() {
  local text
  text=$(manifest)
  if [[ $dry_run == true ]]; then
    printf "kubectl apply --filename=- <<'END'\n%s\nEND\n" "$text"
  else
    kubectl apply --filename=- <<<"$text"
  fi
}

logs() {
  run kubectl logs --follow \
    --selector="jobset.sigs.k8s.io/jobset-name=$name,batch.kubernetes.io/job-completion-index=0"
}

delete() { run kubectl delete jobset "$name"; }

case $action in
  xpk) submit ;;
  image | manifest | apply | logs | delete) "$action" ;;
  *) fail "unknown action $action; see --help" ;;
esac
