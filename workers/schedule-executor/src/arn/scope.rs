//! What an override or a reason is of, as people write it and as lists tell it.

use super::{Home, Target, is_account, region, short};
use crate::rows::Service;

/// What an override or a reason is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// A context, by its id.
    Context(String),
    /// A tag, by its key.
    Tag(String),
    /// One resource.
    Resource(Target),
}

impl Scope {
    /// The one name of it: `context/web`, `tag/env`, or the key of a resource.
    pub fn name(&self) -> String {
        match self {
            Self::Context(id) => format!("context/{id}"),
            Self::Tag(key) => format!("tag/{key}"),
            Self::Resource(target) => target.key(),
        }
    }
}

impl Home {
    /// Reads `context/web`, `tag/env`, or `KIND/` and what [`resource`](Self::resource) reads.
    ///
    /// # Errors
    /// When it is none of these, in words.
    pub fn scope(&self, text: &str) -> Result<Scope, String> {
        let (kind, rest) = text.split_once('/').unwrap_or((text, ""));
        let none = || {
            let forms = "context/ID, tag/KEY, KIND/REGION/ID or KIND/ID";
            format!("{:?} is no scope: one is {forms}", short(text))
        };
        if rest.trim().is_empty() {
            return Err(none());
        }
        match kind {
            "context" => Ok(Scope::Context(rest.to_owned())),
            "tag" => Ok(Scope::Tag(rest.to_owned())),
            _ => {
                let service = Service::named(kind).ok_or_else(none)?;
                self.resource(service, rest, None).map(Scope::Resource)
            }
        }
    }

    /// The resource of a kind that an id, an ARN, `REGION/ID` or `ACCOUNT/REGION/ID` names; `said` is
    /// the region of an id that tells none.
    ///
    /// # Errors
    /// When it is none, or is said to be in two regions, in words.
    pub fn resource(
        &self,
        service: Service,
        text: &str,
        said: Option<&str>,
    ) -> Result<Target, String> {
        said.map_or(Ok(()), region)?;
        let (account, place, id) = self.parts(text);
        if id.trim().is_empty() || id.chars().any(char::is_control) {
            return Err(format!("{:?} names no {}: its id is empty", short(text), service.name()));
        }
        let home = self.in_region(place.or(said).unwrap_or(&self.region));
        let mut target = home.target(service, id)?;
        let other = said.filter(|said| *said != target.region);
        if let Some(said) = other {
            let there = &target.region;
            return Err(format!("{} is in {there}, and not in {said}", short(text)));
        }
        if !id.starts_with("arn:") {
            target.account = account.filter(|it| *it != self.account).unwrap_or("").to_owned();
            shaped(service, id)?;
        }
        self.has(&target)?;
        Ok(target)
    }

    /// The account and the region that a key tells before the id.
    fn parts<'a>(&self, text: &'a str) -> (Option<&'a str>, Option<&'a str>, &'a str) {
        if text.starts_with("arn:") {
            return (None, None, text);
        }
        let is_region = |it: &str| it == self.region || region(it).is_ok();
        let (first, rest) = text.split_once('/').unwrap_or(("", text));
        match rest.split_once('/') {
            Some((second, id)) if is_account(first) && is_region(second) => {
                (Some(first), Some(second), id)
            }
            _ if !first.is_empty() && is_region(first) => (None, Some(first), rest),
            _ => (None, None, text),
        }
    }
}

/// An id of most kinds has no slash: what stands before one is a region that is none.
fn shaped(service: Service, id: &str) -> Result<(), String> {
    let most = match service {
        Service::Group => return Ok(()),
        Service::Ecs => 1,
        _ => 0,
    };
    let whole = id.split('/').all(|part| !part.is_empty()) && !id.contains(char::is_whitespace);
    if whole && id.matches('/').count() <= most {
        return Ok(());
    }
    let first = id.split('/').next().unwrap_or_default();
    region(first)?;
    Err(format!("{:?} is no id of {}", short(id), service.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> Home {
        Home { account: "123456789012".to_owned(), region: "eu-west-1".to_owned() }
    }

    #[test]
    fn a_scope_is_read_as_it_is_told_and_as_people_write_it() {
        let name = |text: &str| home().scope(text).map(|it| it.name());
        for (text, told) in [
            ("context/web", "context/web"),
            ("tag/team/env", "tag/team/env"),
            ("ec2/i-1", "ec2:instance/eu-west-1/i-1"),
            ("ec2/us-east-1/i-1", "ec2:instance/us-east-1/i-1"),
            ("ec2:instance/us-east-1/i-1", "ec2:instance/us-east-1/i-1"),
            ("ec2/123456789012/us-east-1/i-1", "ec2:instance/us-east-1/i-1"),
            ("rds/210987654321/us-east-1/Orders", "rds:instance/210987654321/us-east-1/orders"),
            ("rds/Orders", "rds:instance/eu-west-1/orders"),
            ("ecs/main/api", "ecs:service/eu-west-1/main/api"),
            ("ecs/us-east-1/api", "ecs:service/us-east-1/default/api"),
            ("ecs/us-east-1/main/api", "ecs:service/us-east-1/main/api"),
            ("asg/us-east-1/a/b", "autoscaling:group/us-east-1/a/b"),
            (
                "rds/arn:aws:rds:us-east-1:210987654321:db:Orders",
                "rds:instance/210987654321/us-east-1/orders",
            ),
        ] {
            assert_eq!(name(text).as_deref(), Ok(told), "{text}");
            assert_eq!(name(told).as_deref(), Ok(told), "{told}");
        }
        for bad in [
            "",
            "/",
            "context",
            "context/",
            "ec2/",
            "ec2/ ",
            "i-1",
            "moon/i-1",
            "ec2/mars-1/i-1",
            "ec2/us-east-1/",
            "ec2/us-east-1/us-east-1/i-1",
            "ec2//i-1",
            "ec2/i 1",
            "rds/arn:aws:rds:us-east-1:1:db:x",
            "ec2/arn:aws:rds:us-east-1:210987654321:db:x",
        ] {
            assert!(name(bad).is_err(), "{bad:?} is {:?}", name(bad));
        }
    }

    #[test]
    fn a_resource_that_is_said_to_be_in_two_regions_is_refused() {
        let read = |text: &str, said| home().resource(Service::Rds, text, Some(said));
        assert_eq!(read("orders", "us-east-1").unwrap().key(), "rds:instance/us-east-1/orders");
        let arn = "arn:aws:rds:us-east-1:210987654321:db:orders";
        assert!(read(arn, "us-east-1").is_ok() && read("us-east-1/orders", "us-east-1").is_ok());
        for text in [arn, "us-east-1/orders", "210987654321/us-east-1/orders"] {
            let why = read(text, "eu-west-1").unwrap_err();
            assert!(why.contains("us-east-1") && why.contains("eu-west-1"), "{why}");
        }
        assert!(read("orders", "mars-1").is_err());
    }
}
