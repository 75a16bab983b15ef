//! Names of resources, by the ARN grammar.

use crate::rows::Service;

/// `arn:partition:service:region:account:resource`; the resource may hold colons and slashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arn<'a> {
    /// The service, such as `rds`.
    pub service: &'a str,
    /// The region; empty for a global resource.
    pub region: &'a str,
    /// The account's id.
    pub account: &'a str,
    /// The rest, such as `db:orders`.
    pub resource: &'a str,
}

impl<'a> Arn<'a> {
    /// Reads an ARN.
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        let (prefix, partition) = (parts.next()?, parts.next()?);
        let [service, region, account, resource] =
            [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
        let good = prefix == "arn" && !partition.is_empty() && !resource.is_empty();
        good.then_some(Self { service, region, account, resource })
    }

    /// Which kind of resource it names, where it is one that can be switched.
    pub fn service(&self) -> Option<Service> {
        Some(self.parts()?.0)
    }

    /// The id within its service: `i-1`, not `instance/i-1`.
    pub fn id(&self) -> Option<&'a str> {
        Some(self.parts()?.1)
    }

    fn parts(&self) -> Option<(Service, &'a str)> {
        let (service, id) = match self.service {
            "ec2" => (Service::Ec2, self.resource.strip_prefix("instance/")?),
            "rds" => match self.resource.split_once(':')? {
                ("db", id) => (Service::Rds, id),
                ("cluster", id) => (Service::Cluster, id),
                _ => return None,
            },
            "autoscaling" => (Service::Group, group(self.resource)?),
            "ecs" => (Service::Ecs, self.resource.strip_prefix("service/")?),
            "appstream" => (Service::AppStream, self.resource.strip_prefix("fleet/")?),
            _ => return None,
        };
        (!id.is_empty()).then_some((service, id))
    }
}

/// The name in `autoScalingGroup:UUID:autoScalingGroupName/NAME`.
fn group(resource: &str) -> Option<&str> {
    let rest = resource.strip_prefix("autoScalingGroup:")?;
    rest.split_once(':')?.1.strip_prefix("autoScalingGroupName/")
}

/// Where a resource is, and what it is called there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// The account; empty for the worker's own.
    pub account: String,
    /// The region.
    pub region: String,
    /// The kind.
    pub service: Service,
    /// The id within the service.
    pub id: String,
}

impl Target {
    /// The target of an id or ARN in a list of `service`; an id that is no ARN is in the worker's
    /// own `region`.
    ///
    /// # Errors
    /// When it is an ARN of something else.
    pub fn resolve(service: Service, text: &str, region: &str) -> Result<Self, String> {
        if !text.starts_with("arn:") {
            let (account, region, id) = (String::new(), region.to_owned(), text.to_owned());
            return Ok(Self { account, region, service, id });
        }
        let arn = Arn::parse(text).and_then(|arn| Some((arn, arn.parts()?)));
        match arn {
            Some((arn, (found, id))) if found == service => Ok(Self {
                account: arn.account.to_owned(),
                region: if arn.region.is_empty() { region } else { arn.region }.to_owned(),
                service,
                id: id.to_owned(),
            }),
            _ => Err(format!("{text} is no ARN of kind {}", service.name())),
        }
    }

    /// The key of its audit rows: `ec2:instance/eu-west-1/i-1`.
    pub fn key(&self) -> String {
        format!("{}/{}/{}", self.service.name(), self.region, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_cut_from_arns_by_their_grammar() {
        for (arn, service, id) in [
            ("arn:aws:ec2:eu-west-1:123456789012:instance/i-0ab", Service::Ec2, "i-0ab"),
            ("arn:aws-cn:rds:cn-north-1:123456789012:db:orders", Service::Rds, "orders"),
            ("arn:aws:appstream:us-east-1:1:fleet/desk", Service::AppStream, "desk"),
            ("arn:aws:rds:eu-west-1:1:cluster:sales", Service::Cluster, "sales"),
            ("arn:aws:ecs:eu-west-1:1:service/main/api", Service::Ecs, "main/api"),
            (
                "arn:aws:autoscaling:eu-west-1:1:autoScalingGroup:f-0:autoScalingGroupName/a:b/c",
                Service::Group,
                "a:b/c",
            ),
        ] {
            let target = Target::resolve(service, arn, "eu-north-1").unwrap();
            assert_eq!(target.id, id);
            assert_eq!(target.region, arn.split(':').nth(3).unwrap());
        }
        for bad in [
            "arn:aws:rds:r:1:cluster:c",
            "arn:aws:ec2:r:1:volume/v",
            "arn:aws:rds",
            "arn:aws:rds:r:1:db:",
        ] {
            assert!(Target::resolve(Service::Rds, bad, "r").is_err(), "{bad}");
        }
    }

    #[test]
    fn an_id_is_in_the_own_region() {
        let target = Target::resolve(Service::Ec2, "i-1", "eu-north-1").unwrap();
        assert_eq!(
            (target.key().as_str(), target.account.as_str()),
            ("ec2:instance/eu-north-1/i-1", "")
        );
    }
}
