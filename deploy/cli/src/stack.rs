//! Stacks of `deploy/cfn/`: created, compared with their template, and deleted without a trace.
//!
//! Local endpoints drop parts of a template in silence, so a stack counts as created only once
//! every resource, described by its own service, is what the template says. What an endpoint is
//! known to drop is listed in `deploy/dev/known-gaps.toml`, and set from the template's values
//! where the service's API can.
//!
//! ```no_run
//! use flotilla_cli::{aws::Clients, stack::{Stack, Template}};
//!
//! # async fn example() -> Result<(), flotilla_cli::Error> {
//! let clients = Clients::from_env().await;
//! let stack = Stack::create(&clients, "flotilla-try", &Template::data()?).await?;
//! println!("{}", stack.outputs().grading_queue_url);
//! stack.delete().await
//! # }
//! ```

mod cloudformation;
mod compare;
mod delete;
mod describe;
mod fill;
mod gaps;
mod outputs;
mod resolve;
mod template;

use std::{collections::HashMap, time::Duration};

use aws_sdk_cloudformation::types::Stack as Description;
use serde_json::{Map, Value};

pub use self::{
    compare::Difference,
    gaps::{Gap, Gaps},
    outputs::Outputs,
    template::Template,
};
use self::{delete::Planned, describe::Seen, resolve::Scope};
use crate::{aws::Clients, error::Error, names};

/// How often a stack in AWS is compared before what differs counts, and the pause between.
const AWS_LOOKS: u32 = 15;
const AWS_PAUSE: Duration = Duration::from_secs(5);

/// The kinds of workers.
pub(crate) const KINDS: [&str; 4] = ["grading", "compile", "schedule", "anomaly"];

/// A stack that exists.
#[derive(Debug, Clone)]
pub struct Stack {
    clients: Clients,
    name: String,
    id: String,
    template: Template,
    outputs: Outputs,
    /// Whether it is compared with its template, and seen to be gone when it is deleted.
    looked_at: bool,
}

impl Stack {
    /// Creates a stack, compares it with its template, fills the gaps that are known, and
    /// compares again.
    ///
    /// On any failure the stack is removed again before the error is returned: an error names the
    /// resource that CloudFormation could not make, or every difference.
    pub async fn create(clients: &Clients, name: &str, template: &Template) -> Result<Self, Error> {
        Self::create_with_gaps(clients, name, template, &Gaps::known()?).await
    }

    /// [`Stack::create`] with another list of known gaps.
    pub async fn create_with_gaps(
        clients: &Clients,
        name: &str,
        template: &Template,
        gaps: &Gaps,
    ) -> Result<Self, Error> {
        Self::make(clients, name, template, Some(gaps)).await
    }

    /// [`Stack::create`] that takes CloudFormation's word for what it makes, and later for what it
    /// deletes: nothing is compared, and no gap filled. That is a twentieth of the requests, for who
    /// makes many of one template, each under a name of its own.
    pub async fn create_unseen(
        clients: &Clients,
        name: &str,
        template: &Template,
    ) -> Result<Self, Error> {
        Self::make(clients, name, template, None).await
    }

    /// Makes a stack, compared where there are gaps to compare it with.
    async fn make(
        clients: &Clients,
        name: &str,
        template: &Template,
        gaps: Option<&Gaps>,
    ) -> Result<Self, Error> {
        names::stack(name)?;
        if cloudformation::describe(clients, name).await?.is_some() {
            return Err(Error::Usage(format!(
                "stack {name} exists already: choose another name, or remove it with \
                 `flotilla stack delete --name {name}`"
            )));
        }
        let made = cloudformation::create(clients, name, template).await;
        let made = match made {
            Ok(description) => Self::complete(clients, name, template, gaps, description).await,
            Err(e) => Err(e),
        };
        if made.is_err() {
            // The first error is the one to tell, whatever comes of the removal.
            let _ = Self::remove(clients, name, template).await;
        }
        made
    }

    /// The stack of this name, as it was created.
    pub async fn open(clients: &Clients, name: &str) -> Result<Self, Error> {
        let description = cloudformation::describe(clients, name).await?;
        let description = description.ok_or_else(|| Error::NoStack(name.to_owned()))?;
        let text = cloudformation::template(clients, name).await?;
        let mut template = Template::parse(&text)?;
        for parameter in description.parameters() {
            if let (Some(key), Some(value)) =
                (parameter.parameter_key(), parameter.parameter_value())
            {
                template = template.with(key, value);
            }
        }
        Self::from_description(clients, name, &template, &description)
    }

    /// Queue URLs, bucket and table names.
    pub fn outputs(&self) -> &Outputs {
        &self.outputs
    }

    /// The stack's name, with which the name of each of its resources begins.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The template that the stack was created from, with its parameters.
    pub fn template(&self) -> &Template {
        &self.template
    }

    /// Compares the stack, gaps filled, with a template; an error lists every difference.
    pub async fn check(&self, template: &Template, gaps: &Gaps) -> Result<(), Error> {
        self.settle(template, gaps, true).await.map(drop)
    }

    /// Empties the buckets, deletes the stack, and verifies that nothing of it is left (unless it was
    /// [made unseen](Self::create_unseen)).
    ///
    /// A protected stack is refused before anything is touched.
    pub async fn delete(self) -> Result<(), Error> {
        let values = self.template.parameter_values()?;
        if values.get("Protect").is_some_and(|protect| protect == "true") {
            return Err(Error::Protected(self.name));
        }
        let plan = self.plan(&self.template).await?;
        delete::empty_buckets(&self.clients, &plan).await?;
        if !self.looked_at {
            return cloudformation::delete(&self.clients, &self.name, &self.id).await;
        }
        delete::withdraw(&self.clients, &plan).await?;
        cloudformation::delete(&self.clients, &self.name, &self.id).await?;
        let left = delete::left(&self.clients, &plan).await?;
        match left.is_empty() {
            true => Ok(()),
            false => Err(Error::Left { stack: self.name.clone(), left }),
        }
    }

    async fn complete(
        clients: &Clients,
        name: &str,
        template: &Template,
        gaps: Option<&Gaps>,
        description: Description,
    ) -> Result<Self, Error> {
        let stack = Self::from_description(clients, name, template, &description)?;
        let Some(gaps) = gaps else {
            return Ok(Self { looked_at: false, ..stack });
        };
        let found = stack.settle(template, gaps, false).await?;
        stack.fill(found.into_iter().filter(|gap| gap.fill)).await?;
        stack.check(template, gaps).await?;
        Ok(stack)
    }

    async fn remove(clients: &Clients, name: &str, template: &Template) -> Result<(), Error> {
        let Some(description) = cloudformation::describe(clients, name).await? else {
            return Ok(());
        };
        let id = description.stack_id().unwrap_or(name).to_owned();
        let scope = Scope::new(template, name, &id, HashMap::new())?;
        let plan = planned(template, &scope)?;
        delete::empty_buckets(clients, &plan).await?;
        delete::withdraw(clients, &plan).await?;
        cloudformation::delete(clients, name, &id).await
    }

    fn from_description(
        clients: &Clients,
        name: &str,
        template: &Template,
        description: &Description,
    ) -> Result<Self, Error> {
        let id = description.stack_id().unwrap_or(name).to_owned();
        let outputs = serde_json::from_value(Value::Object(said_outputs(description)))
            .map_err(|e| Error::Template(format!("stack {name} lacks an output: {e}")))?;
        let (clients, template) = (clients.clone(), template.clone());
        Ok(Stack { clients, name: name.to_owned(), id, template, outputs, looked_at: true })
    }

    async fn scope<'t>(&self, template: &'t Template) -> Result<Scope<'t>, Error> {
        let physical = cloudformation::physical(&self.clients, &self.id).await?;
        Scope::new(template, &self.name, &self.id, physical)
    }

    async fn plan<'t>(&self, template: &'t Template) -> Result<Vec<Planned<'t>>, Error> {
        planned(template, &self.scope(template).await?)
    }

    async fn compare(&self, template: &Template) -> Result<Vec<Difference>, Error> {
        let scope = self.scope(template).await?;
        let mut differences = Vec::new();
        for (resource, wanted) in planned(template, &scope)? {
            let (name, kind) = (resource.name, resource.kind);
            match describe::describe(&self.clients, kind, &wanted).await? {
                Seen::There(found) => {
                    differences.append(&mut compare::properties(name, &wanted, &found));
                }
                Seen::Missing => {
                    differences.push(Difference::whole(name, format!("a {kind}"), "none"));
                }
                Seen::Uncompared => {
                    let expected = format!("a comparison for {kind}");
                    differences.push(Difference::whole(name, expected, "a type nobody compares"));
                }
            }
        }
        differences.append(&mut self.compare_outputs(template, &scope).await?);
        Ok(differences)
    }

    async fn compare_outputs(
        &self,
        template: &Template,
        scope: &Scope<'_>,
    ) -> Result<Vec<Difference>, Error> {
        let description = cloudformation::describe(&self.clients, &self.id).await?;
        let found = description.as_ref().map(said_outputs).unwrap_or_default();
        Ok(compare::properties("Outputs", &template.outputs(scope)?, &found))
    }

    /// Compares until nothing unknown differs, and returns the known gaps found. AWS shows a new
    /// setting of a queue or bucket within a minute; a local endpoint has no such excuse.
    async fn settle<'g>(
        &self,
        template: &Template,
        gaps: &'g Gaps,
        filled: bool,
    ) -> Result<Vec<&'g Gap>, Error> {
        let endpoint = &self.clients.endpoint;
        let mut looks = if endpoint.name == "aws" { AWS_LOOKS } else { 1 };
        loop {
            let verdict = gaps.judge(endpoint, self.compare(template).await?, filled);
            let differences = verdict.complaints(endpoint);
            looks -= 1;
            if differences.is_empty() {
                return Ok(verdict.found);
            }
            if looks == 0 {
                let (stack, endpoint) = (self.name.clone(), endpoint.to_string());
                return Err(Error::Differs { stack, endpoint, differences });
            }
            tokio::time::sleep(AWS_PAUSE).await;
        }
    }

    async fn fill(&self, gaps: impl Iterator<Item = &Gap>) -> Result<(), Error> {
        let plan = self.plan(&self.template).await?;
        for gap in gaps {
            for (resource, wanted) in plan.iter().filter(|(it, _)| it.name == gap.resource) {
                fill::fill(&self.clients, resource.kind, gap.top(), wanted).await?;
            }
        }
        Ok(())
    }
}

fn planned<'t>(template: &'t Template, scope: &Scope<'_>) -> Result<Vec<Planned<'t>>, Error> {
    template.resources().map(|it| Ok((it, scope.properties(&it)?))).collect()
}

fn said_outputs(description: &Description) -> Map<String, Value> {
    let outputs = description.outputs().iter();
    let outputs = outputs.filter_map(|it| Some((it.output_key.clone()?, it.output_value.clone()?)));
    outputs.map(|(key, value)| (key, Value::String(value))).collect()
}
