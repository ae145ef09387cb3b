//! Profiles and their hooks.

use super::{Durability, For, Result, Store, column_u32, signed, unsigned};
use rusqlite::{Connection, OptionalExtension, Row, params};

/// A profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileRow {
    /// Its name.
    pub name: String,
    /// The name of its image.
    pub image: String,
    /// Its own template, if it has one: XML.
    pub template: Option<String>,
    /// Memory, if it says so.
    pub memory_mib: Option<u64>,
    /// Virtual processors, if it says so.
    pub cpus: Option<u32>,
    /// The user who made it.
    pub owner_uid: u32,
    /// Its scripts, by their kind: `create`, `delete`.
    pub hooks: Vec<(String, String)>,
}

fn profile(row: &Row<'_>) -> rusqlite::Result<ProfileRow> {
    Ok(ProfileRow {
        name: row.get("name")?,
        image: row.get("image")?,
        template: row.get("template")?,
        memory_mib: row.get::<_, Option<i64>>("memory_mib")?.map(unsigned),
        cpus: row.get("cpus")?,
        owner_uid: column_u32(row, "owner_uid")?,
        hooks: Vec::new(),
    })
}

fn hooks(connection: &Connection, name: &str) -> rusqlite::Result<Vec<(String, String)>> {
    connection
        .prepare_cached("SELECT kind, script FROM hook WHERE profile = ?1 ORDER BY kind")?
        .query_map([name], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

impl Store {
    /// One profile.
    ///
    /// # Errors
    /// When the database fails.
    pub fn profile(&self, name: &str) -> Result<Option<ProfileRow>> {
        const ACTION: &str = "read a profile";
        let connection = self.lock();
        let found = connection
            .query_row("SELECT * FROM profile WHERE name = ?1", [name], profile)
            .optional()
            .to(ACTION)?;
        let Some(mut row) = found else {
            return Ok(None);
        };
        row.hooks = hooks(&connection, name).to(ACTION)?;
        Ok(Some(row))
    }

    /// Every profile, by name.
    ///
    /// # Errors
    /// When the database fails.
    pub fn profiles(&self) -> Result<Vec<ProfileRow>> {
        const ACTION: &str = "read the profiles";
        let connection = self.lock();
        let mut rows: Vec<ProfileRow> = connection
            .prepare_cached("SELECT * FROM profile ORDER BY name")
            .and_then(|mut statement| statement.query_map([], profile)?.collect())
            .to(ACTION)?;
        for row in &mut rows {
            row.hooks = hooks(&connection, &row.name).to(ACTION)?;
        }
        Ok(rows)
    }

    /// Records a profile.
    ///
    /// # Errors
    /// When the database fails or the name is taken.
    pub fn insert_profile(&self, new: &ProfileRow) -> Result<()> {
        const ACTION: &str = "record a profile";
        self.write(ACTION, Durability::Full, |tx| {
            tx.execute(
                "INSERT INTO profile VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    new.name,
                    new.image,
                    new.template,
                    new.memory_mib.map(signed),
                    new.cpus,
                    new.owner_uid,
                ],
            )
            .to(ACTION)?;
            for (kind, script) in &new.hooks {
                tx.execute(
                    "INSERT INTO hook VALUES (?1, ?2, ?3)",
                    params![new.name, kind, script],
                )
                .to(ACTION)?;
            }
            Ok(())
        })
    }

    /// Forgets a profile.
    ///
    /// # Errors
    /// When the database fails.
    pub fn delete_profile(&self, name: &str) -> Result<()> {
        self.write("forget a profile", Durability::Full, |tx| {
            tx.execute("DELETE FROM profile WHERE name = ?1", [name])
                .to("forget a profile")?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_comes_back_as_it_was_recorded_and_goes_with_its_hooks() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("state.db")).unwrap();
        let row = ProfileRow {
            name: "web".into(),
            image: "debian".into(),
            template: None,
            memory_mib: Some(2048),
            cpus: None,
            owner_uid: 7,
            hooks: vec![
                ("create".into(), "#!/bin/sh\ntrue\n".into()),
                ("delete".into(), String::new()),
            ],
        };
        store.insert_profile(&row).unwrap();
        assert!(store.insert_profile(&row).is_err());
        assert_eq!(store.profile("web").unwrap().as_ref(), Some(&row));
        assert_eq!(store.profiles().unwrap(), std::slice::from_ref(&row));
        store.delete_profile("web").unwrap();
        assert_eq!(store.profile("web").unwrap(), None);
        let bare = ProfileRow {
            hooks: Vec::new(),
            ..row
        };
        store.insert_profile(&bare).unwrap();
        assert_eq!(store.profile("web").unwrap(), Some(bare));
    }
}
