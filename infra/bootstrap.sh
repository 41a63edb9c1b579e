#!/usr/bin/env bash
# Makes an empty Google Cloud project ready for Terraform: a bucket for its state, and the account that Cloud Build
# deploys as. Run by an owner of the project, once; again, it changes nothing.
#   infra/bootstrap.sh PROJECT REGION B2_BUCKET
set -euo pipefail
[[ $# == 3 ]] || { sed -n '2,4s/^# *//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
project=$1 region=$2 bucket=$3
state=gs://$project-dumont-state
deployer=dumont-deployer@$project.iam.gserviceaccount.com

# What its Terraform files make, and no more: not editor, which could read the secrets too.
roles=(
    cloudfunctions.admin run.admin cloudscheduler.admin pubsub.admin datastore.owner secretmanager.admin storage.admin
    monitoring.admin logging.configWriter logging.logWriter iam.serviceAccountAdmin iam.serviceAccountUser
    iam.roleAdmin resourcemanager.projectIamAdmin serviceusage.serviceUsageAdmin cloudbuild.builds.editor
)

echo "APIs that Terraform itself needs"
gcloud services enable --project="$project" cloudresourcemanager.googleapis.com serviceusage.googleapis.com \
    iam.googleapis.com cloudbuild.googleapis.com storage.googleapis.com secretmanager.googleapis.com

# Rights are given to it before it has anything to do, and until then Google has not made it.
gcloud services enable --project="$project" pubsub.googleapis.com
gcloud beta services identity create --service=pubsub.googleapis.com --project="$project" >/dev/null

echo "the bucket for Terraform's state, $state"
gcloud storage buckets describe "$state" --project="$project" >/dev/null 2>&1 ||
    gcloud storage buckets create "$state" --project="$project" --location="$region" \
        --uniform-bucket-level-access --public-access-prevention
gcloud storage buckets update "$state" --versioning >/dev/null

echo "the account that deploys, $deployer"
gcloud iam service-accounts describe "$deployer" --project="$project" >/dev/null 2>&1 ||
    gcloud iam service-accounts create dumont-deployer --project="$project" --display-name="Dumont deployer"
for role in "${roles[@]}"; do
    gcloud projects add-iam-policy-binding "$project" --member="serviceAccount:$deployer" --role="roles/$role" \
        --condition=None >/dev/null
done

echo "the deployment's settings, $state/dumont.tfvars"
# Only where there is none, by the store's own word: that it could not be looked at does not say so.
gcloud storage objects describe "$state/dumont.tfvars" >/dev/null 2>&1 ||
    printf 'region = "%s"\nbucket = "%s"\n' "$region" "$bucket" |
    gcloud storage cp - "$state/dumont.tfvars" --if-generation-match=0
