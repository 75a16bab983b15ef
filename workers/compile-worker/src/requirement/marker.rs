//! The marker of a requirement: where it applies.

use pep440_rs::{Version, VersionSpecifier};

use crate::{builder::BuilderInfo, names::normalize};

/// Parentheses may stand in each other so deep.
const DEPTH_LIMIT: usize = 50;
/// How values are compared.
const OPERATORS: [&str; 8] = ["<", "<=", "==", "!=", ">=", ">", "~=", "==="];

/// A marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Marker {
    All(Vec<Marker>),
    Any(Vec<Marker>),
    Compares(Operand, String, Operand),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operand {
    Variable(Variable),
    Text(String),
}

/// What the place where a requirement is installed is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variable {
    Python,
    FullPython,
    Os,
    Platform,
    Machine,
    System,
    Release,
    Implementation,
    ImplementationName,
    Extra,
}

impl Marker {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut reader = Reader { rest: text };
        let marker = reader.any(0)?;
        match reader.rest.trim() {
            "" => Ok(marker),
            rest => Err(format!("its marker goes on with {:?}", super::shown(rest))),
        }
    }

    pub(super) fn holds(&self, builder: &BuilderInfo, extra: &str) -> bool {
        match self {
            Self::All(all) => all.iter().all(|it| it.holds(builder, extra)),
            Self::Any(any) => any.iter().any(|it| it.holds(builder, extra)),
            Self::Compares(left, operator, right) => {
                let of_extra = left.is_extra() || right.is_extra();
                let value = |it: &Operand| match it {
                    Operand::Variable(it) => it.value(builder, extra).to_owned(),
                    Operand::Text(text) if of_extra => normalize(text).unwrap_or(text.clone()),
                    Operand::Text(text) => text.clone(),
                };
                compares(&value(left), operator, &value(right))
            }
        }
    }
}

impl Operand {
    fn is_extra(&self) -> bool {
        *self == Self::Variable(Variable::Extra)
    }
}

impl Variable {
    /// By its name, or by one that it had before PEP 508.
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "python_version" => Self::Python,
            "python_full_version" | "implementation_version" => Self::FullPython,
            "os_name" | "os.name" => Self::Os,
            "sys_platform" | "sys.platform" => Self::Platform,
            "platform_machine" | "platform.machine" => Self::Machine,
            "platform_system" => Self::System,
            "platform_release" | "platform_version" | "platform.version" => Self::Release,
            "platform_python_implementation"
            | "platform.python_implementation"
            | "python_implementation" => Self::Implementation,
            "implementation_name" => Self::ImplementationName,
            "extra" => Self::Extra,
            _ => return None,
        })
    }

    fn value<'v>(self, builder: &'v BuilderInfo, extra: &'v str) -> &'v str {
        match self {
            Self::Python => builder.minor(),
            Self::FullPython => &builder.python,
            Self::Os => "posix",
            Self::Platform => "linux",
            Self::Machine => "x86_64",
            Self::System => "Linux",
            // The kernel under a container is nobody's to count on.
            Self::Release => "",
            Self::Implementation => "CPython",
            Self::ImplementationName => "cpython",
            Self::Extra => extra,
        }
    }
}

/// Versions are compared as such, all else as text.
fn compares(left: &str, operator: &str, right: &str) -> bool {
    let specifier = format!("{operator}{right}").parse::<VersionSpecifier>();
    if let (Ok(version), Ok(specifier)) = (left.parse::<Version>(), specifier) {
        return specifier.contains(&version);
    }
    match operator {
        "in" => right.contains(left),
        "not in" => !right.contains(left),
        "<" => left < right,
        "<=" => left <= right,
        ">" => left > right,
        ">=" => left >= right,
        "!=" => left != right,
        _ => left == right,
    }
}

/// What is left of a text.
struct Reader<'t> {
    rest: &'t str,
}

impl<'t> Reader<'t> {
    fn any(&mut self, depth: usize) -> Result<Marker, String> {
        let mut parts = vec![self.all(depth)?];
        while self.word("or") {
            parts.push(self.all(depth)?);
        }
        Ok(Marker::Any(parts))
    }

    fn all(&mut self, depth: usize) -> Result<Marker, String> {
        let mut parts = vec![self.one(depth)?];
        while self.word("and") {
            parts.push(self.one(depth)?);
        }
        Ok(Marker::All(parts))
    }

    fn one(&mut self, depth: usize) -> Result<Marker, String> {
        if !self.sign("(") {
            return Ok(Marker::Compares(self.operand()?, self.operator()?, self.operand()?));
        }
        if depth == DEPTH_LIMIT {
            return Err(format!("its marker has over {DEPTH_LIMIT} parentheses in each other"));
        }
        let inner = self.any(depth + 1)?;
        match self.sign(")") {
            true => Ok(inner),
            false => Err("a parenthesis of its marker is not closed".to_owned()),
        }
    }

    fn operand(&mut self) -> Result<Operand, String> {
        self.rest = self.rest.trim_start();
        if let Some(quote) = self.rest.chars().next().filter(|c| matches!(c, '"' | '\'')) {
            let text = self.rest[1..].split_once(quote);
            let (text, rest) = text.ok_or("a text in its marker has no end")?;
            self.rest = rest;
            return Ok(Operand::Text(text.to_owned()));
        }
        let name = self.take(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
        let variable = Variable::named(name).map(Operand::Variable);
        variable.ok_or_else(|| format!("its marker has no variable {:?}", super::shown(name)))
    }

    fn operator(&mut self) -> Result<String, String> {
        if self.word("in") {
            return Ok("in".to_owned());
        }
        if self.word("not") {
            let whole = self.word("in").then(|| "not in".to_owned());
            return whole.ok_or_else(|| "its marker has a \"not\" without an \"in\"".to_owned());
        }
        self.rest = self.rest.trim_start();
        let operator = self.take(|c| "<=>!~".contains(c));
        match OPERATORS.contains(&operator) {
            true => Ok(operator.to_owned()),
            false => Err(format!("its marker does not compare with {:?}", super::shown(operator))),
        }
    }

    fn take(&mut self, which: impl Fn(char) -> bool) -> &'t str {
        let end = self.rest.find(|c| !which(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn sign(&mut self, sign: &str) -> bool {
        let rest = self.rest.trim_start().strip_prefix(sign);
        rest.inspect(|rest| self.rest = rest).is_some()
    }

    /// A word, and not the beginning of a longer one.
    fn word(&mut self, word: &str) -> bool {
        let rest = self.rest.trim_start().strip_prefix(word);
        let rest = rest.filter(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'));
        rest.inspect(|rest| self.rest = rest).is_some()
    }
}
