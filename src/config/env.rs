//! Settings from environment variables.
//!
//! The variable of a setting is `WEIR_`, its table and its name in capitals: `WEIR_HTTP_LISTEN`. Which settings there
//! are, and of which type, is read off the defaults, so a new setting has its variable without a line here.

use toml::{Table, Value};

use super::{CONFIG_FILE_ENV, ConfigError, from_table};

/// What the name of every variable starts with.
pub const ENV_PREFIX: &str = "WEIR_";

/// The variable of the setting at `path` (as in `["http", "listen"]`).
pub(super) fn name(path: &[String]) -> String {
    format!("{ENV_PREFIX}{}", path.join("_").to_uppercase())
}

/// The paths of all settings in `table`, with their values.
pub(super) fn leaves(table: &Table) -> Vec<(Vec<String>, Value)> {
    let mut found = Vec::new();
    for (key, value) in table {
        if let Value::Table(inner) = value {
            found.extend(leaves(inner).into_iter().map(|(mut path, value)| {
                path.insert(0, key.clone());
                (path, value)
            }));
        } else {
            found.push((vec![key.clone()], value.clone()));
        }
    }
    found
}

/// Writes the settings that the environment holds over `values`.
pub(super) fn overlay(
    values: &mut Table,
    defaults: &Table,
    env: impl Fn(&str) -> Option<String>,
) -> Result<(), ConfigError> {
    for (path, default) in leaves(defaults) {
        let name = name(&path);
        let Some(text) = env(&name) else { continue };
        let fail = |reason| ConfigError::Env { name: name.clone(), reason };
        let value = parse(&text, &default).map_err(fail)?;
        let mut alone = Table::new();
        set(&mut alone, &path, value.clone());
        from_table(alone).map_err(fail)?;
        set(values, &path, value);
    }
    Ok(())
}

/// Which of `names` look like a setting of weir but are none.
pub fn unknown_names(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut known: Vec<String> =
        leaves(&super::Config::default().to_table()).iter().map(|(path, _)| name(path)).collect();
    known.push(CONFIG_FILE_ENV.to_owned());
    names.into_iter().filter(|name| name.starts_with(ENV_PREFIX) && !known.contains(name)).collect()
}

/// `text` as a value of the type that `default` has. A list is separated by commas; one of tables is JSON.
fn parse(text: &str, default: &Value) -> Result<Value, String> {
    let text = text.trim();
    match default {
        Value::Integer(_) => {
            text.parse().map(Value::Integer).map_err(|_| format!("{text:?} is no whole number"))
        }
        Value::Float(_) => text.parse().map(Value::Float).map_err(|_| format!("{text:?} is no number")),
        Value::Boolean(_) => {
            text.parse().map(Value::Boolean).map_err(|_| format!("{text:?} is neither true nor false"))
        }
        Value::Array(_) if is_json_list(text) => {
            // The reason alone: the text may hold a secret.
            let list: serde_json::Value =
                serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))?;
            Value::try_from(list).map_err(|error| format!("no list of tables: {error}"))
        }
        Value::Array(_) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Ok(Value::Array(items.map(|item| Value::String(item.to_owned())).collect()))
        }
        _ => Ok(Value::String(text.to_owned())),
    }
}

/// Whether a list is one of tables. An IPv6 address begins with `[` as well.
fn is_json_list(text: &str) -> bool {
    text.strip_prefix('[').is_some_and(|rest| rest.trim_start().starts_with(['{', ']']))
}

fn set(table: &mut Table, path: &[String], value: Value) {
    match path {
        [] => {}
        [key] => {
            table.insert(key.clone(), value);
        }
        [key, rest @ ..] => {
            let inner = table.entry(key.clone()).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                set(inner, rest, value);
            }
        }
    }
}
