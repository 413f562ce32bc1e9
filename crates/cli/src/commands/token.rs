//! `watershed token`: who may use the API and the console.

use watershed_serve::{Role, TokenRecord};
use watershed_types::{Error, Result};

use crate::api::{token_file, tokens};
use crate::arguments::{Format, TokenAction, TokenArguments};
use crate::output::{Cell, Sheet, print};
use crate::project::Project;

/// Runs the command.
pub fn run(arguments: TokenArguments) -> Result<u8> {
    let project = Project::open(&arguments.project.project)?;
    let file = token_file(&project);
    match arguments.action {
        TokenAction::Create { name, role } => {
            let role = Role::parse(&role).ok_or_else(|| Error::invalid("SRV0019", format!("there is no role \"{role}\"")).hint("Roles: viewer, operator, admin, ingest."))?;
            let token = file.create(&name, role, chrono::Utc::now().timestamp_micros())?;
            eprintln!("this token is shown once; only its hash is kept in {}", file.path().display());
            print(&format!("{}\n", token.expose()))?;
        }
        TokenAction::List { format } => {
            let mut sheet = Sheet::new(&["name", "role", "from", "created_at"]);
            for TokenRecord { name, role, created_at, .. } in file.read()? {
                sheet.push(vec![Cell::text(name), Cell::text(role.name()), Cell::text("file"), Cell::time(created_at)]);
            }
            for TokenRecord { name, role, .. } in tokens(&project.settings.serve.tokens)? {
                sheet.push(vec![Cell::text(name), Cell::text(role.name()), Cell::text("settings"), Cell::Null]);
            }
            if format == Format::Table && sheet.is_empty() {
                print("no tokens: on loopback nobody is asked, and beyond it nothing is served\n")?;
            } else {
                sheet.print(format)?;
            }
        }
        TokenAction::Revoke { name } => {
            if !file.revoke(&name)? {
                return Err(Error::invalid("SRV0019", format!("there is no token \"{name}\" to take back"))
                    .hint("`watershed token list` shows them; those of [serve] tokens are removed in watershed.toml."));
            }
            eprintln!("\"{name}\" may not come in any more");
        }
    }
    Ok(0)
}
