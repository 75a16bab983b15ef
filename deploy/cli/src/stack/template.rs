//! A CloudFormation template as data: parsed once, and resolved against a stack that exists.

use serde_json::{Map, Value, json};
use serde_norway::Value as Yaml;

use super::resolve::Scope;
use crate::error::Error;

/// The template of Flotilla's data, `deploy/cfn/data.yaml`.
const DATA: &str = include_str!("../../../cfn/data.yaml");

/// A template's text, its parsed form, and the parameters that differ from its defaults.
#[derive(Debug, Clone)]
pub struct Template {
    text: String,
    body: Value,
    parameters: Map<String, Value>,
}

/// One resource of a template, before its properties are resolved.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resource<'t> {
    /// The logical name.
    pub(crate) name: &'t str,
    /// For example `AWS::SQS::Queue`.
    pub(crate) kind: &'t str,
    pub(crate) properties: &'t Value,
}

impl Template {
    /// The embedded template of Flotilla's data, for a stack that can be deleted
    /// (`Protect=false`).
    pub fn data() -> Result<Self, Error> {
        Ok(Self::parse(DATA)?.protected(false))
    }

    /// Parses a template in YAML or JSON; the short forms of intrinsic functions are understood.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let yaml: Yaml =
            serde_norway::from_str(text).map_err(|e| Error::Template(e.to_string()))?;
        let body = plain(&yaml)?;
        if body.get("Resources").is_none_or(|resources| !resources.is_object()) {
            return Err(Error::Template("it has no Resources".to_owned()));
        }
        Ok(Template { text: text.to_owned(), body, parameters: Map::new() })
    }

    /// The same template with its parameter `Protect` set, where it declares one.
    pub fn protected(self, protect: bool) -> Self {
        let declared = self.section("Parameters").any(|(name, _)| name == "Protect");
        match declared {
            true => self.with("Protect", if protect { "true" } else { "false" }),
            false => self,
        }
    }

    /// The same template with one parameter set, for example `("GradingVisibilityTimeout", "5")`.
    /// A parameter that the template does not declare is refused when the stack is created.
    pub fn with(mut self, parameter: &str, value: &str) -> Self {
        self.parameters.insert(parameter.to_owned(), json!(value));
        self
    }

    /// Another text with the same parameters set.
    pub fn rewritten(&self, text: &str) -> Result<Self, Error> {
        Ok(Template { parameters: self.parameters.clone(), ..Self::parse(text)? })
    }

    /// The text as it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The parameters that were set.
    pub(crate) fn given(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parameters.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
    }

    /// The value of every declared parameter: as set, else its default; numbers as numbers.
    pub(crate) fn parameter_values(&self) -> Result<Map<String, Value>, Error> {
        let declared = self.section("Parameters");
        declared.map(|(name, it)| Ok((name.clone(), self.parameter(name, it)?))).collect()
    }

    fn parameter(&self, name: &str, declaration: &Value) -> Result<Value, Error> {
        let value = self.parameters.get(name).or_else(|| declaration.get("Default"));
        let value = value.ok_or_else(|| {
            Error::Template(format!("parameter {name} has no value and no default"))
        })?;
        match (declaration["Type"].as_str(), value.as_str()) {
            (Some("Number"), Some(digits)) => serde_json::from_str(digits)
                .map_err(|_| Error::Template(format!("parameter {name} is no number: {digits}"))),
            _ => Ok(value.clone()),
        }
    }

    pub(crate) fn resources(&self) -> impl Iterator<Item = Resource<'_>> {
        self.section("Resources").map(|(name, it)| Resource {
            name,
            kind: it["Type"].as_str().unwrap_or("(no type)"),
            properties: &it["Properties"],
        })
    }

    pub(crate) fn resource(&self, name: &str) -> Option<Resource<'_>> {
        self.resources().find(|resource| resource.name == name)
    }

    pub(crate) fn condition(&self, name: &str) -> Option<&Value> {
        self.body.get("Conditions")?.get(name)
    }

    /// The outputs' resolved values, by name.
    pub(crate) fn outputs(&self, scope: &Scope<'_>) -> Result<Map<String, Value>, Error> {
        let outputs = self.section("Outputs");
        outputs.map(|(name, it)| Ok((name.clone(), scope.resolve(&it["Value"])?))).collect()
    }

    fn section(&self, name: &str) -> impl Iterator<Item = (&String, &Value)> {
        self.body.get(name).and_then(Value::as_object).into_iter().flatten()
    }
}

/// YAML as JSON, with `!Sub x` as `{"Fn::Sub": x}`.
fn plain(yaml: &Yaml) -> Result<Value, Error> {
    Ok(match yaml {
        Yaml::Sequence(items) => items.iter().map(plain).collect::<Result<_, _>>()?,
        Yaml::Mapping(entries) => {
            let entries = entries.iter().map(|(key, value)| Ok((text(key)?, plain(value)?)));
            Value::Object(entries.collect::<Result<_, Error>>()?)
        }
        Yaml::Tagged(tagged) => function(&tagged.tag.to_string(), plain(&tagged.value)?),
        scalar => serde_json::to_value(scalar).map_err(|e| Error::Template(e.to_string()))?,
    })
}

fn text(key: &Yaml) -> Result<String, Error> {
    let text = key.as_str().ok_or_else(|| Error::Template(format!("{key:?} is no key")))?;
    Ok(text.to_owned())
}

fn function(tag: &str, argument: Value) -> Value {
    match (tag.trim_start_matches('!'), argument) {
        (name @ ("Ref" | "Condition"), argument) => json!({ name: argument }),
        ("GetAtt", Value::String(path)) => {
            json!({ "Fn::GetAtt": path.splitn(2, '.').collect::<Vec<_>>() })
        }
        (name, argument) => json!({ format!("Fn::{name}"): argument }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms_become_long_ones() {
        let template = Template::parse(
            "Resources: {A: {Type: T, Properties: {x: !Ref B, y: !GetAtt B.Arn, z: !Sub 's-${C}'}}}",
        )
        .expect("parses");
        let resource = template.resource("A").expect("is there");
        assert_eq!(
            *resource.properties,
            json!({"x": {"Ref": "B"}, "y": {"Fn::GetAtt": ["B", "Arn"]}, "z": {"Fn::Sub": "s-${C}"}})
        );
    }

    #[test]
    fn a_text_without_resources_is_no_template() {
        assert!(Template::parse("Outputs: {}").is_err());
        assert!(Template::parse(": : :").is_err());
    }

    #[test]
    fn every_resource_of_the_embedded_template_is_read() {
        let template = Template::data().expect("parses");
        let written = template.text().matches("    Type: AWS::").count();
        assert_eq!(template.resources().count(), written);
        assert!(template.resources().any(|resource| resource.name == "LedgerTable"));
    }

    #[test]
    fn a_number_parameter_is_a_number() {
        let template = Template::data().expect("parses").with("GradingVisibilityTimeout", "5");
        let values = template.parameter_values().expect("has values");
        assert_eq!(values["GradingVisibilityTimeout"], json!(5));
        assert_eq!(values["Protect"], json!("false"));
    }
}
