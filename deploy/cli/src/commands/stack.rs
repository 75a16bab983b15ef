//! `flotilla stack`: create, check, delete.

use std::path::PathBuf;

use clap::{Subcommand, builder::NonEmptyStringValueParser};

use crate::{
    aws::Clients,
    console::out,
    error::{Doing, Error},
    stack::{Gaps, Outputs, Stack, Template},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Creates a stack, compares every resource with the template, and fills known gaps.
    Create {
        #[command(flatten)]
        target: Target,
        /// Makes the tables refuse to be deleted, as for production.
        #[arg(long)]
        protect: bool,
        /// Prints the outputs as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Compares a stack that exists with the template; exits 1 if anything differs.
    Check {
        #[command(flatten)]
        target: Target,
    },
    /// Empties the stack's buckets, deletes it, and verifies that nothing is left.
    Delete {
        /// The stack's name.
        #[arg(long, env = "FLOTILLA_STACK", value_parser = NonEmptyStringValueParser::new())]
        name: String,
    },
}

#[derive(Debug, clap::Args)]
struct Target {
    /// The stack's name; the name of everything in it begins with it.
    #[arg(long, env = "FLOTILLA_STACK", value_parser = NonEmptyStringValueParser::new())]
    name: String,
    /// Another template than the one built in.
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
    /// Sets a parameter of the template.
    #[arg(long = "set", value_name = "PARAMETER=VALUE")]
    set: Vec<String>,
}

impl Target {
    fn template(&self, protect: bool) -> Result<Template, Error> {
        let mut template = match &self.template {
            None => Template::data()?,
            Some(path) => {
                let text = std::fs::read_to_string(path);
                Template::parse(&text.doing(|| format!("reading {}", path.display()))?)?
            }
        };
        template = template.protected(protect);
        for setting in &self.set {
            let (name, value) = setting.split_once('=').ok_or_else(|| {
                Error::Usage(format!("--set {setting}: say it as PARAMETER=VALUE"))
            })?;
            template = template.with(name, value);
        }
        Ok(template)
    }
}

pub(crate) async fn run(args: Args) -> Result<(), Error> {
    let clients = Clients::from_env().await;
    match args.action {
        Action::Create { target, protect, json } => {
            let template = target.template(protect)?;
            let stack = Stack::create(&clients, &target.name, &template).await?;
            print_outputs(stack.outputs(), json)
        }
        Action::Check { target } => check(&clients, &target).await,
        Action::Delete { name } => {
            Stack::open(&clients, &name).await?.delete().await?;
            out(format!("stack {name} is deleted, and nothing of it is left"));
            Ok(())
        }
    }
}

async fn check(clients: &Clients, target: &Target) -> Result<(), Error> {
    let stack = Stack::open(clients, &target.name).await?;
    let template = match (&target.template, target.set.is_empty()) {
        // As it was created, parameters included.
        (None, true) => stack.template().rewritten(Template::data()?.text())?,
        _ => target.template(false)?,
    };
    stack.check(&template, &Gaps::known()?).await?;
    out(format!("stack {} on {} is what its template says", stack.name(), clients.endpoint));
    Ok(())
}

fn print_outputs(outputs: &Outputs, json: bool) -> Result<(), Error> {
    let outputs = serde_json::to_value(outputs).map_err(|e| Error::Fleet(e.to_string()))?;
    if json {
        out(format!("{outputs:#}"));
        return Ok(());
    }
    for (name, value) in outputs.as_object().into_iter().flatten() {
        out(format!("{name:28} {}", value.as_str().unwrap_or_default()));
    }
    Ok(())
}
