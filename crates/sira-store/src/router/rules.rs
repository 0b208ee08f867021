//! Rules that users write, in the Common Expression Language.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use cel::common::ast::{Expr, IdedExpr, SourceInfo};
use cel::{Context, Env as CelEnv, ExecutionError, Program, Value};

use crate::error::{Result, StorageError};
use crate::options::StorageOptions;

use super::request::{Route, RouteRequest};
use super::stats::RoutingStats;
use super::strategy::{RoutingStrategy, simple_form};

/// Longest expression, in bytes.
pub const EXPRESSION_BYTES_MAX: usize = 4096;

const VARIABLES: [&str; 10] = [
    "namespace",
    "key",
    "operation",
    "size",
    "region",
    "content_type",
    "ttl_s",
    "hour",
    "consistency",
    "backends",
];
const FUNCTIONS: [&str; 9] =
    ["size", "contains", "startsWith", "endsWith", "string", "int", "uint", "double", "has"];

/// Rules in the Common Expression Language, asked in order; the first that holds wins.
///
/// An expression answers `true` or `false`, for the backends that the rule names, or the name of a
/// backend itself (the empty string for no answer). It can use:
///
/// | Variable | Type | Meaning |
/// |---|---|---|
/// | `namespace`, `key` | string | of the object |
/// | `operation` | string | `read`, `write`, `delete`, `list` |
/// | `size` | int | bytes, -1 where unknown |
/// | `region` | string | of the caller, empty where unknown |
/// | `content_type` | string | empty where there is none |
/// | `ttl_s` | int | seconds to live, -1 for ever |
/// | `hour` | int | hour of the day, UTC |
/// | `consistency` | string | `strong`, `eventual`, `weak` |
/// | `backends` | map | by name: `latency_ms`, `p99_ms`, `success_rate`, `operations_per_s`, `cost_per_operation` (doubles), `region` (string) |
///
/// and the functions `size`, `contains`, `startsWith`, `endsWith`, `string`, `int`, `uint`, `double`
/// and `has`. Macros that go over lists are refused, so an evaluation takes time in proportion to
/// the expression. A rule whose evaluation fails, over a backend that there is not for example, has
/// no answer; explanations tell.
#[derive(Default)]
pub struct Rules {
    env: Option<Arc<CelEnv>>,
    rules: Vec<Rule>,
}

struct Rule {
    name: String,
    program: Program,
    variables: Vec<&'static str>,
    backends: Vec<String>,
}

impl Rules {
    /// No rules.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a rule. With `backends`, the expression must answer `true` or `false`; without, it must
    /// answer the name of a backend.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`](crate::StorageError::InvalidInput) with line and column for an
    /// expression that is too long, cannot be read, uses a variable, function or macro that there is
    /// not, or is of another type.
    pub fn add(&mut self, name: &str, expression: &str, backends: Vec<String>) -> Result<()> {
        let wrong = |why: String| {
            StorageError::invalid_input(format!("the rule {name:?} cannot be used: {why}"))
        };
        if expression.len() > EXPRESSION_BYTES_MAX {
            return Err(wrong(format!(
                "its expression has {} bytes and may have {EXPRESSION_BYTES_MAX}",
                expression.len()
            )));
        }
        let env = self.env.get_or_insert_with(|| Arc::new(CelEnv::stdlib())).clone();
        let program = env.compile(expression).map_err(|errors| {
            let list: Vec<String> = errors
                .errors
                .iter()
                .map(|e| format!("line {}, column {}: {}", e.pos.0, e.pos.1, e.msg))
                .collect();
            wrong(list.join("; "))
        })?;
        let mut found = Vec::new();
        check(program.expression(), program.source_info(), &mut found).map_err(wrong)?;
        let variables =
            VARIABLES.into_iter().filter(|name| found.iter().any(|f| f == name)).collect();
        let rule = Rule { name: name.to_owned(), program, variables, backends };
        // What is wrong with the types shows on any request, except behind a backend's name.
        let options = StorageOptions::default();
        let sample = RouteRequest { size: Some(1), ..RouteRequest::new("sample", &options) };
        match rule.evaluate(&env, &sample, &RoutingStats::default()) {
            Err(error) if !error.by_values => return Err(wrong(error.text)),
            Ok(_) | Err(_) => {}
        }
        self.rules.push(rule);
        Ok(())
    }
}

/// Why a rule has no answer.
struct Failure {
    /// With other values, or other backends, it may have one.
    by_values: bool,
    text: String,
}

impl Rule {
    /// The backends where the rule holds, else none.
    fn evaluate(
        &self,
        env: &Arc<CelEnv>,
        request: &RouteRequest<'_>,
        stats: &RoutingStats,
    ) -> Result<Vec<String>, Failure> {
        let mut context = Context::with_env(env.clone());
        for name in &self.variables {
            context.add_variable_from_value(*name, value(name, request, stats));
        }
        let typed = |wanted: &str, got: &Value| Failure {
            by_values: false,
            text: format!("it answers {got:?} where {wanted} is wanted"),
        };
        match self.program.execute(&context) {
            Ok(Value::Bool(holds)) if !self.backends.is_empty() => {
                Ok(if holds { self.backends.clone() } else { Vec::new() })
            }
            Ok(Value::String(name)) if self.backends.is_empty() => {
                Ok(if name.is_empty() { Vec::new() } else { vec![name.to_string()] })
            }
            Ok(other) if self.backends.is_empty() => Err(typed("the name of a backend", &other)),
            Ok(other) => Err(typed("true or false", &other)),
            Err(error) => {
                let by_values = matches!(
                    error,
                    ExecutionError::NoSuchKey(_)
                        | ExecutionError::IndexOutOfBounds(_)
                        | ExecutionError::DivisionByZero(_)
                        | ExecutionError::RemainderByZero(_)
                        | ExecutionError::Overflow(..)
                        | ExecutionError::FunctionError { .. }
                );
                Err(Failure { by_values, text: error.to_string() })
            }
        }
    }
}

/// Refuses what is not among the variables and functions, and everything that loops; collects the
/// variables.
fn check(node: &IdedExpr, source: &SourceInfo, found: &mut Vec<String>) -> Result<(), String> {
    let at = || {
        let start = source.offset_for(node.id).map_or(0, |(start, _)| start as usize);
        let before = source.source.get(..start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
        format!("line {line}, column {column}")
    };
    match &node.expr {
        Expr::Literal(_) => Ok(()),
        Expr::Ident(name) if VARIABLES.contains(&name.as_str()) => {
            found.push(name.clone());
            Ok(())
        }
        Expr::Ident(name) => Err(format!(
            "{}: there is no variable {name:?}; there are {}",
            at(),
            VARIABLES.join(", ")
        )),
        Expr::Select(select) => check(&select.operand, source, found),
        Expr::List(list) => list.elements.iter().try_for_each(|e| check(e, source, found)),
        Expr::Call(call) => {
            // Operators are named by signs: `_+_`, `!_`, `@in`.
            let operator = !call.func_name.starts_with(|c: char| c.is_ascii_alphabetic());
            if !operator && !FUNCTIONS.contains(&call.func_name.as_str()) {
                return Err(format!(
                    "{}: there is no function {:?}; there are {}",
                    at(),
                    call.func_name,
                    FUNCTIONS.join(", ")
                ));
            }
            let parts = call.target.iter().map(|target| &**target).chain(&call.args);
            parts.into_iter().try_for_each(|part| check(part, source, found))
        }
        Expr::Comprehension(_) => Err(format!(
            "{}: `all`, `exists`, `exists_one`, `map` and `filter` are not allowed here",
            at()
        )),
        Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => {
            Err(format!("{}: maps and structures are not allowed here", at()))
        }
    }
}

/// What a variable stands for.
fn value(name: &str, request: &RouteRequest<'_>, stats: &RoutingStats) -> Value {
    let number =
        |n: Option<u64>| Value::Int(n.map_or(-1, |n| i64::try_from(n).unwrap_or(i64::MAX)));
    match name {
        "namespace" => request.namespace.into(),
        "key" => request.key.into(),
        "operation" => request.operation.as_str().into(),
        "size" => number(request.size),
        "region" => request.region.unwrap_or_default().into(),
        "content_type" => request.content_type().unwrap_or_default().into(),
        "ttl_s" => number(request.ttl().map(|ttl| ttl.as_secs())),
        "hour" => number(Some(request.now_ms / 3_600_000 % 24)),
        "consistency" => match request.options.consistency {
            crate::ConsistencyLevel::Strong => "strong".into(),
            crate::ConsistencyLevel::Eventual => "eventual".into(),
            crate::ConsistencyLevel::Weak => "weak".into(),
        },
        _ => {
            let ms = |time: std::time::Duration| Value::Float(time.as_secs_f64() * 1000.0);
            let known = stats.iter().filter(|(name, _)| request.allows(name));
            let backends: HashMap<String, Value> = known
                .map(|(name, backend)| {
                    let region = backend.profile.region.as_deref().unwrap_or_default();
                    let fields: HashMap<String, Value> = [
                        ("latency_ms", ms(backend.avg_response_time)),
                        ("p99_ms", ms(backend.p99_response_time)),
                        ("success_rate", Value::Float(backend.success_rate)),
                        ("operations_per_s", Value::Float(backend.operations_per_s)),
                        ("cost_per_operation", Value::Float(backend.cost_per_operation)),
                        ("region", region.into()),
                    ]
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect();
                    (name.to_owned(), fields.into())
                })
                .collect();
            backends.into()
        }
    }
}

impl RoutingStrategy for Rules {
    fn name(&self) -> &str {
        "rules"
    }

    simple_form!();

    fn route(&self, request: &RouteRequest<'_>, stats: &RoutingStats) -> Option<Route> {
        let env = self.env.as_ref()?;
        let mut failed: Vec<String> = Vec::new();
        for rule in &self.rules {
            match rule.evaluate(env, request, stats) {
                Ok(backends) if backends.iter().any(|name| request.allows(name)) => {
                    let reason = || {
                        let mut reason = format!("the rule {:?} holds", rule.name);
                        for failure in &failed {
                            reason.push_str(failure);
                        }
                        reason
                    };
                    return Some(Route::to(backends).because(request.reason(reason)));
                }
                Ok(_) => {}
                Err(error) if request.explain => {
                    failed
                        .push(format!("; {:?} could not be evaluated: {}", rule.name, error.text));
                }
                Err(_) => {}
            }
        }
        None
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.rules.iter().map(|rule| &rule.name)).finish()
    }
}

#[cfg(test)]
mod tests;
