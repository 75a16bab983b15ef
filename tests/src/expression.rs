//! CloudWatch's metric math, as much of it as the templates use.
//!
//! Numbers, `+ - * /`, `>`, parentheses, `IF(condition, then, else)` and `FILL(metric, value)`; a
//! metric without data makes what is made from it have none, save in `FILL` (Amazon CloudWatch
//! User Guide, "Using math expressions with CloudWatch metrics").

use std::{collections::HashMap, iter::Peekable, vec::IntoIter};

/// The value of an expression, where it has one.
///
/// # Panics
/// When it is no expression, or names a metric that is not given.
pub fn evaluate(text: &str, metrics: &HashMap<&str, Option<f64>>) -> Option<f64> {
    let mut parser = Parser { tokens: tokens(text).into_iter().peekable(), metrics };
    let value = parser.comparison();
    assert_eq!(parser.tokens.next(), None, "more after the end of {text}");
    value
}

fn tokens(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut joined = false;
    for c in text.chars() {
        let word = c.is_alphanumeric() || c == '_' || c == '.';
        match tokens.last_mut().filter(|_| word && joined) {
            Some(last) => last.push(c),
            None if !c.is_whitespace() => tokens.push(c.to_string()),
            None => {}
        }
        joined = word;
    }
    tokens
}

struct Parser<'a> {
    tokens: Peekable<IntoIter<String>>,
    metrics: &'a HashMap<&'a str, Option<f64>>,
}

impl Parser<'_> {
    fn comparison(&mut self) -> Option<f64> {
        let left = self.sum();
        if !self.take(">") {
            return left;
        }
        let right = self.sum();
        Some(f64::from(u8::from(left? > right?)))
    }

    fn sum(&mut self) -> Option<f64> {
        let mut value = self.product();
        loop {
            value = match (self.take("+"), self.take("-")) {
                (true, _) => self.product().and_then(|it| Some(value? + it)),
                (_, true) => self.product().and_then(|it| Some(value? - it)),
                _ => return value,
            };
        }
    }

    fn product(&mut self) -> Option<f64> {
        let mut value = self.single();
        loop {
            value = match (self.take("*"), self.take("/")) {
                (true, _) => self.single().and_then(|it| Some(value? * it)),
                // A quotient by zero has no value.
                (_, true) => self.single().filter(|it| *it != 0.0).and_then(|it| Some(value? / it)),
                _ => return value,
            };
        }
    }

    fn single(&mut self) -> Option<f64> {
        let token = self.tokens.next().expect("more of the expression");
        if token == "(" {
            let value = self.comparison();
            assert!(self.take(")"));
            return value;
        }
        match token.as_str() {
            "IF" => {
                let [condition, yes, no] = self.arguments();
                if condition? != 0.0 { yes } else { no }
            }
            "FILL" => {
                let [metric, filling] = self.arguments();
                metric.or(filling)
            }
            text => text.parse().ok().or_else(|| self.metrics[text]),
        }
    }

    fn arguments<const N: usize>(&mut self) -> [Option<f64>; N] {
        assert!(self.take("("));
        std::array::from_fn(|n| {
            let value = self.comparison();
            assert!(self.take(if n + 1 == N { ")" } else { "," }));
            value
        })
    }

    fn take(&mut self, token: &str) -> bool {
        self.tokens.next_if(|next| next == token).is_some()
    }
}
