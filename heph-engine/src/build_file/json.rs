//! `json.encode` and `json.decode`. Those of the interpreter descend without bound.

use starlark::environment::GlobalsBuilder;
use starlark::eval::Evaluator;
use starlark::starlark_module;
use starlark::values::Value as Starlark;

use super::error::raise;
use super::value::convert;
use crate::problem::Problem;
use crate::spec::Value;

#[starlark_module]
pub(super) fn json_functions(builder: &mut GlobalsBuilder) {
    /// A value as JSON.
    fn encode<'v>(#[starlark(require = pos)] value: Starlark<'v>) -> starlark::Result<String> {
        let value = convert(value).map_err(|wrong| raise(Problem::new(format!("json.encode(): {wrong}"))))?;
        Ok(json(value)?.to_string())
    }

    /// The value of a text in JSON.
    fn decode<'v>(
        #[starlark(require = pos)] text: &str,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Starlark<'v>> {
        let value: serde_json::Value = serde_json::from_str(text)
            .map_err(|error| raise(Problem::new(format!("json.decode(): {error}"))))?;
        Ok(eval.heap().alloc(value))
    }
}

fn json(value: Value) -> starlark::Result<serde_json::Value> {
    Ok(match value {
        Value::None => serde_json::Value::Null,
        Value::Bool(truth) => truth.into(),
        Value::Int(number) => number.into(),
        Value::Float(number) => serde_json::Number::from_f64(number)
            .map(serde_json::Value::Number)
            .ok_or_else(|| {
                raise(Problem::new(format!(
                    "json.encode(): JSON has no number {number}"
                )))
            })?,
        Value::String(text) => text.into(),
        Value::List(elements) => elements
            .into_iter()
            .map(json)
            .collect::<starlark::Result<Vec<_>>>()?
            .into(),
        Value::Dict(entries) => entries
            .into_iter()
            .map(|(key, value)| Ok((key, json(value)?)))
            .collect::<starlark::Result<serde_json::Map<_, _>>>()?
            .into(),
    })
}
