//! Deleting a stack so that nothing of it is left.

use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use super::{
    describe::{Found, Seen, describe, name, s3},
    fill,
    gaps::Gaps,
    template::Resource,
};
use crate::{
    aws::Clients,
    error::{Doing, Error},
};

/// A resource and its resolved properties, as they were before the deletion.
pub(crate) type Planned<'t> = (Resource<'t>, Found);

/// Takes back what filled a gap, which CloudFormation does not know of.
pub(crate) async fn withdraw(clients: &Clients, plan: &[Planned<'_>]) -> Result<(), Error> {
    let gaps = Gaps::known()?;
    for gap in gaps.of(&clients.endpoint).filter(|gap| gap.fill) {
        for (resource, wanted) in plan.iter().filter(|(it, _)| it.name == gap.resource) {
            if let Seen::There(_) = describe(clients, resource.kind, wanted).await? {
                fill::withdraw(clients, resource.kind, gap.top(), wanted).await?;
            }
        }
    }
    Ok(())
}

/// Empties every bucket of the plan that is there, all versions and unfinished uploads included:
/// CloudFormation deletes empty buckets only.
pub(crate) async fn empty_buckets(clients: &Clients, plan: &[Planned<'_>]) -> Result<(), Error> {
    for (_, wanted) in plan.iter().filter(|(it, _)| it.kind == "AWS::S3::Bucket") {
        let bucket = name(wanted, "BucketName")?;
        if s3::is_there(clients, &bucket).await? {
            while delete_page(clients, &bucket).await? {}
            while abort_page(clients, &bucket).await? {}
        }
    }
    Ok(())
}

/// Deletes the first page of versions and markers; false once there is none. Each turn lists
/// anew, so that what arrives meanwhile goes too.
async fn delete_page(clients: &Clients, bucket: &str) -> Result<bool, Error> {
    let page = clients.s3.list_object_versions().bucket(bucket).send().await;
    let page = page.doing(|| format!("listing bucket {bucket}"))?;
    let versions = page.versions().iter().map(|it| (it.key(), it.version_id()));
    let markers = page.delete_markers().iter().map(|it| (it.key(), it.version_id()));
    let objects: Vec<_> = versions.chain(markers).filter_map(identifier).collect();
    match objects.is_empty() {
        true => Ok(false),
        false => delete_objects(clients, bucket, objects).await.map(|()| true),
    }
}

async fn delete_objects(
    clients: &Clients,
    bucket: &str,
    objects: Vec<ObjectIdentifier>,
) -> Result<(), Error> {
    let doing = || format!("emptying bucket {bucket}");
    let order = Delete::builder().set_objects(Some(objects)).quiet(true).build();
    let order = order.map_err(|e| Error::Fleet(format!("{}: {e}", doing())))?;
    let answer = clients.s3.delete_objects().bucket(bucket).delete(order).send().await;
    match answer.doing(doing)?.errors().first() {
        None => Ok(()),
        Some(refused) => Err(Error::Fleet(format!(
            "bucket {bucket} keeps {}: {}",
            refused.key().unwrap_or("an object"),
            refused.message().unwrap_or("no reason given")
        ))),
    }
}

fn identifier((key, version): (Option<&str>, Option<&str>)) -> Option<ObjectIdentifier> {
    let version = version.map(str::to_owned);
    ObjectIdentifier::builder().key(key?).set_version_id(version).build().ok()
}

async fn abort_page(clients: &Clients, bucket: &str) -> Result<bool, Error> {
    let page = clients.s3.list_multipart_uploads().bucket(bucket).send().await;
    let page = page.doing(|| format!("listing the uploads of bucket {bucket}"))?;
    for upload in page.uploads() {
        let call = clients.s3.abort_multipart_upload().bucket(bucket);
        let call = call.set_key(upload.key.clone()).set_upload_id(upload.upload_id.clone());
        call.send().await.doing(|| format!("aborting an upload to bucket {bucket}"))?;
    }
    Ok(!page.uploads().is_empty())
}

/// Every resource of the plan that is still there.
pub(crate) async fn left(clients: &Clients, plan: &[Planned<'_>]) -> Result<Vec<String>, Error> {
    let mut left = Vec::new();
    // A policy goes with its queue, and cannot be asked for without it.
    for (resource, wanted) in plan.iter().filter(|(it, _)| it.kind != "AWS::SQS::QueuePolicy") {
        if let Seen::There(_) = describe(clients, resource.kind, wanted).await? {
            left.push(format!("{} ({})", resource.name, resource.kind));
        }
    }
    Ok(left)
}
