//! Which fleet a command speaks to.

use crate::{aws::Clients, error::Error, places::Note, stack::Stack};

/// The name of the stack where none is said.
pub(crate) const DEFAULT_STACK: &str = "flotilla-dev";

/// Says which fleet.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Which {
    /// The fleet's stack: the one that `flotilla up` runs on this machine, else one at
    /// AWS_ENDPOINT_URL, else one in AWS. [default: flotilla-dev]
    #[arg(long, env = "FLOTILLA_STACK")]
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
        let name = args.stack.as_deref().unwrap_or(DEFAULT_STACK);
        let note = Note::read(name);
        let set = std::env::var("AWS_ENDPOINT_URL").is_ok_and(|url| !url.is_empty());
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
