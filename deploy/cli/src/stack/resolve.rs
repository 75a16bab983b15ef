//! Intrinsic functions of a template, resolved for one stack.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::template::{Resource, Template};
use crate::error::Error;

/// Everything that references of one stack resolve to.
#[derive(Debug)]
pub(crate) struct Scope<'t> {
    template: &'t Template,
    pseudo: HashMap<&'static str, String>,
    parameters: Map<String, Value>,
    /// Logical name to physical id, as CloudFormation lists them.
    physical: HashMap<String, String>,
}

impl<'t> Scope<'t> {
    /// A scope for the stack of this id (an ARN, which names partition, region and account).
    pub(crate) fn new(
        template: &'t Template,
        stack: &str,
        stack_id: &str,
        physical: HashMap<String, String>,
    ) -> Result<Self, Error> {
        let arn: Vec<&str> = stack_id.splitn(6, ':').collect();
        let &[_, partition, _, region, account, _] = arn.as_slice() else {
            return Err(Error::Template(format!("{stack_id} is no stack id")));
        };
        let pseudo = HashMap::from([
            ("AWS::StackName", stack.to_owned()),
            ("AWS::StackId", stack_id.to_owned()),
            ("AWS::Partition", partition.to_owned()),
            ("AWS::Region", region.to_owned()),
            ("AWS::AccountId", account.to_owned()),
        ]);
        Ok(Scope { template, pseudo, parameters: template.parameter_values()?, physical })
    }

    /// The value with every function in it resolved.
    pub(crate) fn resolve(&self, value: &Value) -> Result<Value, Error> {
        match value {
            Value::Object(object) => self.object(object),
            Value::Array(items) => items.iter().map(|item| self.resolve(item)).collect(),
            scalar => Ok(scalar.clone()),
        }
    }

    /// A resource's properties, resolved; an empty object where it has none.
    pub(crate) fn properties(&self, resource: &Resource<'_>) -> Result<Map<String, Value>, Error> {
        match self.resolve(resource.properties)? {
            Value::Object(properties) => Ok(properties),
            _ => Ok(Map::new()),
        }
    }

    fn object(&self, object: &Map<String, Value>) -> Result<Value, Error> {
        let mut entries = object.iter();
        match (entries.next(), entries.next()) {
            (Some((key, argument)), None) if key == "Ref" || key.starts_with("Fn::") => {
                self.function(key, argument)
            }
            _ => object.iter().map(|(k, v)| Ok((k.clone(), self.resolve(v)?))).collect(),
        }
    }

    fn function(&self, name: &str, argument: &Value) -> Result<Value, Error> {
        match (name, argument) {
            ("Ref", Value::String(name)) => self.reference(name),
            ("Fn::Sub", Value::String(text)) => self.sub(text).map(Value::String),
            ("Fn::GetAtt", Value::Array(path)) => self.attribute(path),
            ("Fn::If", Value::Array(branches)) => self.branch(branches),
            ("Fn::Equals", Value::Array(sides)) => self.equals(sides).map(Value::Bool),
            _ => Err(unknown(&format!("{name} of {argument}"))),
        }
    }

    fn reference(&self, name: &str) -> Result<Value, Error> {
        if let Some(value) = self.parameters.get(name) {
            return Ok(value.clone());
        }
        if let Some(value) = self.pseudo.get(name).or_else(|| self.physical.get(name)) {
            return Ok(json!(value));
        }
        // Declared, yet CloudFormation lists no such resource: reported where it is compared.
        match self.template.resource(name) {
            Some(_) => Ok(json!(format!("({name} is missing)"))),
            None => Err(unknown(&format!("Ref {name}"))),
        }
    }

    fn sub(&self, text: &str) -> Result<String, Error> {
        let Some((before, rest)) = text.split_once("${") else {
            return Ok(text.to_owned());
        };
        let (name, after) = rest.split_once('}').ok_or_else(|| unknown(text))?;
        let value = match name.split_once('.') {
            Some((resource, attribute)) => self.attribute(&[json!(resource), json!(attribute)])?,
            None => self.reference(name)?,
        };
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Ok(format!("{before}{value}{}", self.sub(after)?))
    }

    /// An ARN is computed from the resource's own name, not taken from what the endpoint says:
    /// the comparison has to find an endpoint that says something else.
    fn attribute(&self, path: &[Value]) -> Result<Value, Error> {
        let [Value::String(name), Value::String(attribute)] = path else {
            return Err(unknown(&format!("GetAtt {path:?}")));
        };
        let resource = self.template.resource(name).filter(|_| attribute == "Arn");
        let resource = resource.ok_or_else(|| unknown(&format!("GetAtt {name}.{attribute}")))?;
        let arn = match resource.kind {
            "AWS::SQS::Queue" => self.arn("sqs", &self.own_name(&resource, "QueueName")?),
            "AWS::DynamoDB::Table" => {
                self.arn("dynamodb", &format!("table/{}", self.own_name(&resource, "TableName")?))
            }
            "AWS::S3::Bucket" => {
                let bucket = self.own_name(&resource, "BucketName")?;
                format!("arn:{}:s3:::{bucket}", self.pseudo["AWS::Partition"])
            }
            "AWS::IAM::Role" => {
                let role = self.own_name(&resource, "RoleName")?;
                let [partition, account] =
                    ["AWS::Partition", "AWS::AccountId"].map(|key| &self.pseudo[key]);
                format!("arn:{partition}:iam::{account}:role/{role}")
            }
            kind => return Err(unknown(&format!("GetAtt {name}.Arn of a {kind}"))),
        };
        Ok(json!(arn))
    }

    fn arn(&self, service: &str, name: &str) -> String {
        let [partition, region, account] =
            ["AWS::Partition", "AWS::Region", "AWS::AccountId"].map(|key| &self.pseudo[key]);
        format!("arn:{partition}:{service}:{region}:{account}:{name}")
    }

    fn own_name(&self, resource: &Resource<'_>, property: &str) -> Result<String, Error> {
        let name = self.resolve(&resource.properties[property])?;
        let name = name.as_str().map(str::to_owned);
        name.ok_or_else(|| Error::Template(format!("{} needs a {property}", resource.name)))
    }

    fn branch(&self, branches: &[Value]) -> Result<Value, Error> {
        let [Value::String(condition), yes, no] = branches else {
            return Err(unknown(&format!("If {branches:?}")));
        };
        let test = self.template.condition(condition).ok_or_else(|| unknown(condition))?;
        let holds = self.resolve(test)?.as_bool().unwrap_or(false);
        self.resolve(if holds { yes } else { no })
    }

    fn equals(&self, sides: &[Value]) -> Result<bool, Error> {
        match sides {
            [left, right] => Ok(self.resolve(left)? == self.resolve(right)?),
            _ => Err(unknown(&format!("Equals {sides:?}"))),
        }
    }
}

fn unknown(what: &str) -> Error {
    Error::Template(format!("cannot resolve {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "arn:aws:cloudformation:eu-west-1:123456789012:stack/demo/uuid";

    fn check(template: &Template, value: Value) -> Value {
        let physical = HashMap::from([("GradingQueue".to_owned(), "http://q".to_owned())]);
        let scope = Scope::new(template, "demo", ID, physical).expect("scope");
        scope.resolve(&value).expect("resolves")
    }

    #[test]
    fn references_resolve_to_parameters_pseudo_parameters_and_resources() {
        let template = Template::data().expect("parses");
        assert_eq!(check(&template, json!({"Ref": "GradingVisibilityTimeout"})), json!(60));
        assert_eq!(check(&template, json!({"Ref": "AWS::Region"})), json!("eu-west-1"));
        assert_eq!(check(&template, json!({"Ref": "GradingQueue"})), json!("http://q"));
        assert_eq!(
            check(&template, json!({"Ref": "LedgerTable"})),
            json!("(LedgerTable is missing)")
        );
    }

    #[test]
    fn attributes_and_texts_resolve_inside_each_other() {
        let template = Template::data().expect("parses");
        let arn = "arn:aws:sqs:eu-west-1:123456789012:demo-grading-dead";
        let get = json!({"Fn::GetAtt": ["GradingDeadLetterQueue", "Arn"]});
        assert_eq!(check(&template, get), json!(arn));
        assert_eq!(
            check(
                &template,
                json!({"Fn::Sub": "<${GradingDeadLetterQueue.Arn}> ${AWS::StackName}"})
            ),
            json!(format!("<{arn}> demo"))
        );
    }

    #[test]
    fn conditions_follow_the_parameters() {
        let value = json!({"Fn::If": ["Protected", true, false]});
        let template = Template::data().expect("parses");
        assert_eq!(check(&template, value.clone()), json!(false));
        assert_eq!(check(&template.with("Protect", "true"), value), json!(true));
    }

    #[test]
    fn what_is_unknown_is_an_error() {
        let template = Template::data().expect("parses");
        let scope = Scope::new(&template, "demo", ID, HashMap::new()).expect("scope");
        for value in [
            json!({"Ref": "Nothing"}),
            json!({"Fn::GetAtt": ["LedgerTable", "StreamArn"]}),
            json!({"Fn::Join": ["", []]}),
            json!({"Fn::Sub": "${Nothing}"}),
        ] {
            assert!(scope.resolve(&value).is_err(), "{value} resolved");
        }
    }
}
