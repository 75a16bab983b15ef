//! Which fleet a command speaks to.

use clap::builder::NonEmptyStringValueParser;

use crate::{aws::Clients, console::note, error::Error, places::Note, stack::Stack};

/// The name of the stack where none is said.
pub(crate) const DEFAULT_STACK: &str = "flotilla-dev";

/// Says which fleet.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Which {
    /// The fleet's stack: the one that `flotilla up` runs on this machine, else one at
    /// AWS_ENDPOINT_URL, else one in AWS. [default: flotilla-dev, or the only one that is up here]
    #[arg(long, env = "FLOTILLA_STACK", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) stack: Option<String>,
}

/// A fleet as other terminals see it.
pub(crate) struct Target {
    /// Clients of its endpoint.
    pub(crate) clients: Clients,
    /// Its stack.
    pub(crate) stack: Stack,
    /// What `flotilla up` noted, where it runs on this machine.
    pub(crate) note: Option<Note>,
}

impl Target {
    /// Finds the fleet. `AWS_ENDPOINT_URL` goes before what `flotilla up` noted; AWS itself has
    /// to be meant by naming a stack.
    pub(crate) async fn find(args: &Which) -> Result<Self, Error> {
        let set = std::env::var("AWS_ENDPOINT_URL").is_ok_and(|url| !url.is_empty());
        let name = match &args.stack {
            Some(named) => named.clone(),
            // What is up here need not be at the endpoint that is named.
            None if set => DEFAULT_STACK.to_owned(),
            None => unnamed(&Note::all_up())?,
        };
        let name = name.as_str();
        let note = Note::read(name);
        if !set && note.is_none() {
            refuse_to_guess(name, args.stack.is_none())?;
        }
        let noted = note.as_ref().and_then(|note| note.endpoint.as_deref());
        let clients = Clients::at(noted.filter(|_| !set)).await;
        let stack = Stack::open(&clients, name).await?;
        let note = note.filter(|note| note.endpoint == clients.url);
        Ok(Target { clients, stack, note })
    }
}

/// The stack that is meant where none is named, by those that are up here.
fn unnamed(up: &[String]) -> Result<String, Error> {
    let default = DEFAULT_STACK.to_owned();
    if up.is_empty() || up.contains(&default) {
        return Ok(default);
    }
    if let [only] = up {
        note(format!("on stack {only}, the only fleet that is up on this machine"));
        return Ok(only.clone());
    }
    Err(Error::Fleet(format!(
        "no fleet on stack {default} is up on this machine, but on {}: say which with --stack NAME",
        up.join(", ")
    )))
}

/// AWS itself has to be meant: by naming a stack that was not up on this machine just before.
fn refuse_to_guess(stack: &str, unnamed: bool) -> Result<(), Error> {
    if Note::is_stale(stack) {
        return Err(Error::Fleet(format!(
            "the fleet on stack {stack} was killed: start it again with `flotilla up --stack {stack}`, \
             or set AWS_ENDPOINT_URL to where its stack still is"
        )));
    }
    match unnamed {
        false => Ok(()),
        true => Err(Error::Fleet(
            "no fleet is up on this machine: start one with `flotilla up`, or name one with \
             --stack or FLOTILLA_STACK (in AWS, or at AWS_ENDPOINT_URL)"
                .to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_fleet_that_is_up_need_not_be_named_and_of_several_one_has_to_be() {
        let chosen = |up: &[&str]| {
            let up: Vec<_> = up.iter().map(ToString::to_string).collect();
            unnamed(&up)
        };
        assert_eq!(chosen(&[]).unwrap(), DEFAULT_STACK);
        assert_eq!(chosen(&["stranger"]).unwrap(), "stranger");
        assert_eq!(chosen(&["a", DEFAULT_STACK]).unwrap(), DEFAULT_STACK);
        let why = chosen(&["a", "b"]).unwrap_err().to_string();
        assert!(why.contains("on a, b: say which with --stack NAME"), "{why}");
    }
}
