//! Names of resources, by the ARN grammar.

mod scope;

pub use self::scope::Scope;
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

    /// Which kind of resource it names, and the id within its service.
    pub(crate) fn parts(&self) -> Option<(Service, &'a str)> {
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

/// The longest id, in bytes: the keys of the tables hold the rest of a resource's name beside it.
const LONGEST: usize = 512;
/// The longest account or region.
const LONGEST_PLACE: usize = 64;

/// Whether a text has the form of a region, such as `eu-west-1`, `us-gov-east-1` or one that is still
/// to be opened.
///
/// # Errors
/// When it has not, in words.
pub fn region(text: &str) -> Result<(), String> {
    let words = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase());
    let parts: Vec<&str> = text.split('-').collect();
    let good = match parts[..] {
        [first, ref middle @ .., last] if (1..=2).contains(&middle.len()) => {
            let number = matches!(last.len(), 1 | 2) && last.bytes().all(|b| b.is_ascii_digit());
            (2..=4).contains(&first.len())
                && words(first)
                && middle.iter().all(|it| words(it))
                && number
        }
        _ => false,
    };
    let wrong = || format!("{:?} is no region: one is such as eu-west-1", short(text));
    good.then_some(()).ok_or_else(wrong)
}

/// Where ids are that are no ARNs: the worker's own account and region.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Home {
    /// The account's number; empty where it is not known.
    pub account: String,
    /// The region.
    pub region: String,
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

impl Home {
    /// The target of an id or ARN in a list of `service`. However it is spelled, the same resource
    /// is the same target: the own account is that of a plain id.
    ///
    /// # Errors
    /// When it is an ARN of something else, or too long.
    pub fn target(&self, service: Service, text: &str) -> Result<Target, String> {
        let (account, region, id) = match text.starts_with("arn:") {
            true => self.place(service, text)?,
            false => ("", self.region.as_str(), text),
        };
        let place = |text: &str, most| {
            let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            plain && text.len() <= most
        };
        if !place(account, LONGEST_PLACE) || !place(region, LONGEST_PLACE) {
            return Err(format!("{} has no account or region as AWS names them", short(text)));
        }
        if id.len() > LONGEST {
            return Err(format!("{} is an id of over {LONGEST} bytes", short(text)));
        }
        let (account, region) = (account.to_owned(), region.to_owned());
        Ok(Target { account, region, service, id: canonical(service, id) })
    }

    fn place<'a>(
        &'a self,
        service: Service,
        text: &'a str,
    ) -> Result<(&'a str, &'a str, &'a str), String> {
        match Arn::parse(text).and_then(|arn| Some((arn, arn.parts()?))) {
            Some((arn, (found, id))) if found == service => {
                let account = if arn.account == self.account { "" } else { arn.account };
                Ok((account, if arn.region.is_empty() { &self.region } else { arn.region }, id))
            }
            _ => Err(format!("{} is no ARN of kind {}", short(text), service.name())),
        }
    }

    /// Whether a target is where there can be anything: at home, or in what has the form of a region.
    ///
    /// # Errors
    /// When it is not, in words.
    pub fn reaches(&self, target: &Target) -> Result<(), String> {
        if target.region == self.region { Ok(()) } else { region(&target.region) }
    }

    /// Whether a target is where there can be anything, and its account is none that cannot be.
    ///
    /// # Errors
    /// When it is not, in words.
    pub fn has(&self, target: &Target) -> Result<(), String> {
        self.reaches(target)?;
        let account = &target.account;
        let wrong = || format!("{:?} is no account: one has 12 digits", short(account));
        (account.is_empty() || is_account(account)).then_some(()).ok_or_else(wrong)
    }

    /// The same account, in another region.
    pub fn in_region(&self, region: &str) -> Self {
        Self { account: self.account.clone(), region: region.to_owned() }
    }
}

/// The beginning of a text, for a message: ids come from outside.
pub(crate) fn short(text: &str) -> String {
    text.chars().take(100).collect()
}

/// One spelling of an id: RDS does not tell upper from lower case, and an ECS service without a
/// cluster is in the one of the name `default`.
pub(crate) fn canonical(service: Service, id: &str) -> String {
    match service {
        Service::Rds | Service::Cluster => id.to_ascii_lowercase(),
        Service::Ecs if !id.contains('/') => format!("default/{id}"),
        _ => id.to_owned(),
    }
}

/// The partition of a region.
pub(crate) fn partition(region: &str) -> &'static str {
    match region {
        it if it.starts_with("cn-") => "aws-cn",
        it if it.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

/// The account in a queue's URL, which ends in account and name; empty where it tells none.
pub fn account_of_queue(url: &str) -> &str {
    let account = url.rsplit('/').nth(1).unwrap_or_default();
    if is_account(account) { account } else { "" }
}

impl Target {
    /// The key of its rows: `ec2:instance/eu-west-1/i-1`; with the account before the region where
    /// that is another than the worker's own.
    pub fn key(&self) -> String {
        let Self { account, region, service, id } = self;
        let slash = if account.is_empty() { "" } else { "/" };
        format!("{}/{account}{slash}{region}/{id}", service.name())
    }

    /// Its ARN, in an own account of this number; a group's has `*` for the part that only its
    /// service knows.
    pub(crate) fn arn(&self, own: &str) -> String {
        let (service, before) = match self.service {
            Service::Ec2 => ("ec2", "instance/"),
            Service::Rds => ("rds", "db:"),
            Service::Cluster => ("rds", "cluster:"),
            Service::AppStream => ("appstream", "fleet/"),
            Service::Ecs => ("ecs", "service/"),
            Service::Group => ("autoscaling", "autoScalingGroup:*:autoScalingGroupName/"),
        };
        let account = if self.account.is_empty() { own } else { &self.account };
        let (region, id) = (&self.region, &self.id);
        format!("arn:{}:{service}:{region}:{account}:{before}{id}", partition(region))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> Home {
        Home { account: "123456789012".to_owned(), region: "eu-north-1".to_owned() }
    }

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
            let target = home().target(service, arn).unwrap();
            assert_eq!(target.id, id);
            assert_eq!(target.region, arn.split(':').nth(3).unwrap());
        }
        for bad in [
            "arn:aws:rds:r:1:cluster:c",
            "arn:aws:ec2:r:1:volume/v",
            "arn:aws:rds",
            "arn:aws:rds:r:1:db:",
            "arn:aws:rds:a/b:1:db:x",
        ] {
            assert!(home().target(Service::Rds, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_id_is_in_the_own_region_and_its_arn_is_the_same_resource() {
        let target = |text| home().target(Service::Ec2, text).unwrap();
        let plain = target("i-1");
        assert_eq!(plain.key(), "ec2:instance/eu-north-1/i-1");
        assert_eq!(plain, target("arn:aws:ec2:eu-north-1:123456789012:instance/i-1"));
        assert_eq!(plain.arn("1"), "arn:aws:ec2:eu-north-1:1:instance/i-1");
    }

    #[test]
    fn resources_of_the_same_name_in_two_accounts_are_two() {
        let target = |account: &str| {
            let arn = format!("arn:aws:rds:eu-north-1:{account}:db:orders");
            home().target(Service::Rds, &arn).unwrap()
        };
        let (one, two) = (target("210987654321"), target("310987654321"));
        assert_ne!(one, two);
        assert_eq!(one.key(), "rds:instance/210987654321/eu-north-1/orders");
        assert_eq!(target("123456789012").key(), "rds:instance/eu-north-1/orders");
    }

    #[test]
    fn one_resource_has_one_spelling() {
        let id = |service, text| home().target(service, text).unwrap().id;
        assert_eq!(id(Service::Rds, "Orders"), id(Service::Rds, "orders"));
        assert_eq!(id(Service::Ecs, "api"), id(Service::Ecs, "default/api"));
    }

    #[test]
    fn an_id_that_no_key_could_hold_is_refused() {
        assert!(home().target(Service::Ec2, &"i".repeat(512)).is_ok());
        let why = home().target(Service::Ec2, &"i".repeat(3000)).unwrap_err();
        assert!(why.contains("512") && why.len() < 200, "{why}");
        let arn = format!("arn:aws:ec2:{}:1:instance/i-1", "r".repeat(2000));
        assert!(home().target(Service::Ec2, &arn).is_err());
    }

    #[test]
    fn a_region_is_known_by_its_form_and_one_of_the_future_too() {
        for good in
            ["eu-west-1", "ap-southeast-12", "us-gov-east-1", "eusc-de-east-1", "xx-newplace-1"]
        {
            assert_eq!(region(good), Ok(()), "{good}");
        }
        for bad in
            ["", "mars-1", "eu-centra-1x", "eu-central", "EU-west-1", "eu--1", "eu-west-001", "r"]
        {
            assert!(region(bad).unwrap_err().contains("no region"), "{bad}");
        }
        let target = |arn| home().target(Service::Ec2, arn).unwrap();
        assert!(home().reaches(&target("arn:aws:ec2:mars-1:1:instance/i-1")).is_err());
        assert!(home().reaches(&target("i-1")).is_ok());
    }

    #[test]
    fn a_queue_tells_the_account() {
        assert_eq!(account_of_queue("https://sqs.r.amazonaws.com/123456789012/q"), "123456789012");
        assert_eq!(account_of_queue("http://127.0.0.1:4566/queue/q"), "");
    }
}
