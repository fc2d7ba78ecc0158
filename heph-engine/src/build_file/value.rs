//! Values of the interpreter as values of specs.

use starlark::values::dict::DictRef;
use starlark::values::float::UnpackFloat;
use starlark::values::list::ListRef;
use starlark::values::structs::StructRef;
use starlark::values::tuple::TupleRef;
use starlark::values::{UnpackValue, Value as Starlark};

use crate::spec::Value;

/// Levels of lists and dictionaries.
const DEPTH: usize = 32;
/// Values within one value.
const COUNT: usize = 1_000_000;

/// Converts a value; the error is a fragment that says what cannot be a part of it.
pub(super) fn convert(value: Starlark<'_>) -> Result<Value, String> {
    let mut left = COUNT;
    nested(value, DEPTH, &mut left)
}

fn nested(value: Starlark<'_>, depth: usize, left: &mut usize) -> Result<Value, String> {
    let depth = depth
        .checked_sub(1)
        .ok_or_else(|| format!("lists and dictionaries are nested more than {DEPTH} deep"))?;
    *left = left
        .checked_sub(1)
        .ok_or_else(|| format!("it holds more than {COUNT} values"))?;
    if let Some(text) = value.unpack_str() {
        return Ok(Value::String(text.to_owned()));
    }
    if value.is_none() {
        return Ok(Value::None);
    }
    if let Some(truth) = value.unpack_bool() {
        return Ok(Value::Bool(truth));
    }
    if let Ok(Some(number)) = i64::unpack_value(value) {
        return Ok(Value::Int(number));
    }
    if let ("float", Ok(Some(UnpackFloat(number)))) = (value.get_type(), UnpackFloat::unpack_value(value)) {
        return Ok(Value::Float(number));
    }
    let elements = ListRef::from_value(value).map(|list| list.content());
    if let Some(elements) = elements.or_else(|| TupleRef::from_value(value).map(|tuple| tuple.content())) {
        let elements = elements.iter().map(|element| nested(*element, depth, left));
        return Ok(Value::List(elements.collect::<Result<_, _>>()?));
    }
    if let Some(dict) = DictRef::from_value(value) {
        let entries = dict.iter().map(|(key, value)| {
            let key = key
                .unpack_str()
                .ok_or_else(|| format!("a key of a dictionary must be text, not {}", describe(key)))?;
            Ok((key.to_owned(), nested(value, depth, left)?))
        });
        return Ok(Value::Dict(entries.collect::<Result<_, String>>()?));
    }
    if let Some(fields) = StructRef::from_value(value) {
        let entries = fields
            .iter()
            .map(|(key, value)| Ok((key.as_str().to_owned(), nested(value, depth, left)?)));
        return Ok(Value::Dict(entries.collect::<Result<_, String>>()?));
    }
    if value.get_type() == "int" {
        return Err("the number does not fit into 64 bits".to_owned());
    }
    Err(format!("{} is no plain value", describe(value)))
}

/// What a value is, for messages.
pub(super) fn describe(value: Starlark<'_>) -> String {
    match value.get_type() {
        "NoneType" => "None".to_owned(),
        "string" => "text".to_owned(),
        "int" => "a number".to_owned(),
        "float" => "a number with a fraction".to_owned(),
        "bool" => "a truth value".to_owned(),
        "list" => "a list".to_owned(),
        "tuple" => "a tuple".to_owned(),
        "dict" => "a dictionary".to_owned(),
        "native_function" | "function" => "a function".to_owned(),
        other => format!("a value of type '{other}'"),
    }
}
