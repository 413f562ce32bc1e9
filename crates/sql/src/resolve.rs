//! Names: each defined once, all inputs known, nothing in a circle, and an order to build in.
//!
//! **Owns** what is right only for a project as a whole. **Does not own** columns of tables: they follow from planning.

use std::collections::HashMap;

use watershed_types::{Error, Result, near_miss};

use crate::Definitions;
use crate::cursor::Named;
use crate::error::code;
use crate::statement::{Definition, Parsed};

/// Checks all statements of a project against each other.
pub(crate) fn resolve(statements: Vec<Parsed<'_>>) -> Result<Definitions> {
    let (parsed, by_name) = register(statements)?;
    for one in &parsed {
        for used in &one.uses {
            check_use(one, used, &parsed, &by_name)?;
        }
    }
    let queries = order_queries(&parsed, &by_name)?;

    let name_of = |index: &usize| parsed.get(*index).map(|one| one.name.value.clone());
    let kind_is = |kind: &'static str| {
        let matching = parsed.iter().enumerate().filter(move |(_, one)| one.definition.kind() == kind);
        matching.map(|(index, _)| index).collect::<Vec<_>>()
    };
    let mut order = Vec::new();
    for group in [kind_is("source"), kind_is("static table"), queries, kind_is("sink")] {
        order.extend(group.iter().filter_map(name_of));
    }
    let mut definitions = Definitions { order, ..Definitions::default() };
    for one in parsed {
        match one.definition {
            Definition::Source(source) => definitions.sources.push(source),
            Definition::Table(table) => definitions.tables.push(*table),
            Definition::View(view) => definitions.views.push(view),
            Definition::Sink(sink) => definitions.sinks.push(sink),
            Definition::Static(table) => definitions.statics.push(table),
        }
    }
    Ok(definitions)
}

/// One definition per name: OR REPLACE takes the place of an earlier one of its kind.
fn register(statements: Vec<Parsed<'_>>) -> Result<(Vec<Parsed<'_>>, HashMap<String, usize>)> {
    let mut parsed: Vec<Parsed<'_>> = Vec::new();
    let mut by_name: HashMap<String, usize> = HashMap::new();
    for one in statements {
        let Some(index) = by_name.get(&one.name.value).copied() else {
            by_name.insert(one.name.value.clone(), parsed.len());
            parsed.push(one);
            continue;
        };
        let Some(earlier) = parsed.get_mut(index) else { continue };
        let (kind, earlier_kind) = (one.definition.kind(), earlier.definition.kind());
        if one.replace && kind == earlier_kind {
            *earlier = one;
            continue;
        }
        let (name, before) = (&one.name.value, earlier.name.spot.place());
        let message = format!("{kind} \"{name}\" has the name of the {earlier_kind} at {before}");
        let hint = match kind == earlier_kind {
            true => format!("Give one of them another name, or write CREATE OR REPLACE {} {name} to replace the earlier one.", kind.to_ascii_uppercase()),
            false => "Give one of them another name; all objects of a project share one set of names.".to_owned(),
        };
        return Err(one.name.spot.error(code::DUPLICATE_NAME, message).hint(hint));
    }
    Ok((parsed, by_name))
}

fn check_use(user: &Parsed<'_>, used: &Named<'_>, parsed: &[Parsed<'_>], by_name: &HashMap<String, usize>) -> Result<()> {
    let Some(input) = by_name.get(&used.value).and_then(|index| parsed.get(*index)) else {
        return Err(unknown(user, used, parsed));
    };
    let name = &used.value;
    let kind = input.definition.kind();
    if kind == "sink" {
        let message = format!("\"{name}\" is a sink and cannot be read");
        return Err(used.spot.error(code::NOT_READABLE, message).hint("Read the table that the sink delivers."));
    }
    let delivers = user.definition.kind() == "sink";
    if delivers && matches!(kind, "source" | "static table") {
        let message = format!("a sink delivers a table, and \"{name}\" is a {kind}");
        let hint = format!("Make a table of it: CREATE TABLE {name}_table AS SELECT * FROM {name}.");
        return Err(used.spot.error(code::NOT_READABLE, message).hint(hint));
    }
    if *name == user.name.value {
        let message = format!("{} \"{name}\" reads itself", user.definition.kind());
        return Err(used.spot.error(code::CYCLE, message).hint("Read its input, or give the new one another name."));
    }
    Ok(())
}

fn unknown(user: &Parsed<'_>, used: &Named<'_>, parsed: &[Parsed<'_>]) -> Error {
    let name = &used.value;
    if name.starts_with("system.") {
        let message = format!("a pipeline cannot read \"{name}\"");
        return used.spot.error(code::UNKNOWN_INPUT, message).hint("Read system tables by `watershed query`.");
    }
    let others = parsed.iter().filter(|one| one.definition.kind() != "sink" && one.name.value != user.name.value);
    let readable: Vec<&str> = others.map(|one| one.name.value.as_str()).collect();
    let last = name.rsplit('.').next().unwrap_or(name);
    let hint = match near_miss(last, readable.iter().copied()) {
        Some(near) => format!("Did you mean \"{near}\"?"),
        None if readable.is_empty() => "The project defines nothing to read yet; add a CREATE SOURCE.".to_owned(),
        None => {
            let mut known = readable;
            known.sort_unstable();
            let more = known.len().saturating_sub(20);
            known.truncate(20);
            let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("Known names: {}{tail}.", known.join(", "))
        }
    };
    used.spot.error(code::UNKNOWN_INPUT, format!("there is no source, table or view \"{name}\"")).hint(hint)
}

#[derive(Clone, Copy, PartialEq)]
enum Mark {
    New,
    Open,
    Done,
}

/// Tables and views, inputs before users, otherwise as written. Without recursion: chains may be long.
fn order_queries(parsed: &[Parsed<'_>], by_name: &HashMap<String, usize>) -> Result<Vec<usize>> {
    let mut marks = vec![Mark::New; parsed.len()];
    let mut order = Vec::new();
    for start in 0..parsed.len() {
        // The path from `start`: a definition and how many of its uses were looked at.
        let mut path: Vec<(usize, usize)> = vec![(start, 0)];
        while let Some((index, looked_at)) = path.pop() {
            let (Some(one), Some(mark)) = (parsed.get(index), marks.get_mut(index)) else { continue };
            if *mark == Mark::Done || !matches!(one.definition.kind(), "table" | "view") {
                continue;
            }
            *mark = Mark::Open;
            let Some(used) = one.uses.get(looked_at) else {
                *mark = Mark::Done;
                order.push(index);
                continue;
            };
            path.push((index, looked_at + 1));
            let Some(input) = by_name.get(&used.value).copied() else { continue };
            match marks.get(input) {
                Some(Mark::Open) => return Err(cycle(used, input, &path, parsed)),
                Some(Mark::New) => path.push((input, 0)),
                _ => {}
            }
        }
    }
    Ok(order)
}

fn cycle(used: &Named<'_>, first: usize, path: &[(usize, usize)], parsed: &[Parsed<'_>]) -> Error {
    let names = path.iter().skip_while(|(index, _)| *index != first).filter_map(|(index, _)| parsed.get(*index));
    let mut names: Vec<&str> = names.map(|one| one.name.value.as_str()).collect();
    names.push(&used.value);
    // The path runs from users to inputs.
    let message = format!("tables read each other in a circle: {}", names.join(" -> "));
    used.spot.error(code::CYCLE, message).hint("Take one of these reads out.")
}
