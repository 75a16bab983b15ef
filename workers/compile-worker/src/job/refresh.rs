//! New versions are looked for, and what was missed is mended.

use flotilla_runtime::{Failure, Lease};

use super::{Compile, body};
use crate::{
    builds::{Again, Request, State, now, package_key},
    ecosystem,
    message::{CompileMessage, Reconcile, RefreshOrder},
    options::Options,
    packages::Known,
    pypi::PYPI,
    retention,
};

impl Compile {
    pub(super) async fn refresh(&self, order: RefreshOrder, lease: &Lease) -> Result<(), Failure> {
        if let Some(name) = &order.name {
            return self.refresh_one(name, &order, lease).await;
        }
        match &self.changelog {
            Some(url) => self.follow(url, lease).await?,
            None => self.look_at_used(PYPI, false, lease).await?,
        }
        self.look_at_others(false, lease).await?;
        let (_, reconciled) = self.packages.cursor().await?;
        let due = now().saturating_sub(reconciled) >= self.reconcile.as_secs();
        match due && self.packages.reconciling(reconciled).await? {
            true => lease.send(&body(&CompileMessage::Reconcile(Reconcile::default()))?).await,
            false => Ok(()),
        }
    }

    /// Has a look at each package of upstream that changed since the last time, spread over a while.
    async fn follow(&self, url: &str, lease: &Lease) -> Result<(), Failure> {
        let (Some(since), _) = self.packages.cursor().await? else {
            // What changed before is not news; what is in use is looked at.
            let serial = self.ecosystems.pypi.upstream.last_serial(url).await?;
            self.look_at_used(PYPI, false, lease).await?;
            return self.packages.move_cursor(serial).await;
        };
        let changes = self.ecosystems.pypi.upstream.changes(url, since).await?;
        tracing::info!(
            since,
            serial = changes.serial,
            packages = changes.packages.len(),
            "changes"
        );
        for (name, serial) in changes.packages {
            let (name, serial) = (Some(name), Some(serial));
            self.look(RefreshOrder { name, serial, ..RefreshOrder::default() }, lease).await?;
        }
        // Only now: cut off before, the same is looked at again, which changes nothing.
        self.packages.move_cursor(changes.serial).await
    }

    /// Has a look at each package of an ecosystem that somebody downloaded, and at those of the list,
    /// which is PyPI's.
    async fn look_at_used(
        &self,
        ecosystem: &str,
        whole: bool,
        lease: &Lease,
    ) -> Result<(), Failure> {
        let mut names = self.packages.wanted(ecosystem).await?;
        if ecosystem == PYPI {
            names.extend(self.refreshed.iter().cloned());
        }
        for name in names {
            let (ecosystem, name) = (ecosystem.to_owned(), Some(name));
            self.look(RefreshOrder { ecosystem, name, serial: None, whole }, lease).await?;
        }
        Ok(())
    }

    /// The same for the ecosystems that nobody tells what has changed in.
    async fn look_at_others(&self, whole: bool, lease: &Lease) -> Result<(), Failure> {
        for ecosystem in ecosystem::names().filter(|name| *name != PYPI) {
            self.look_at_used(ecosystem, whole, lease).await?;
        }
        Ok(())
    }

    async fn look(&self, order: RefreshOrder, lease: &Lease) -> Result<(), Failure> {
        let jitter = self.jitter.mul_f64(rand::random::<f64>());
        lease.send_after(&body(&CompileMessage::Refresh(order))?, jitter).await
    }

    /// Orders the new versions of a package for the option sets in use, and then moves on: cut
    /// off in between, the same is ordered again, which changes nothing.
    async fn refresh_one(
        &self,
        name: &str,
        order: &RefreshOrder,
        lease: &Lease,
    ) -> Result<(), Failure> {
        let package = package_key(&order.ecosystem, name);
        let known = self.packages.known(&package).await?;
        let found =
            self.ecosystems.versions(&order.ecosystem, name, validator(&known, order)).await?;
        let Some(found) = found else {
            return Ok(());
        };
        if found.serial.is_some_and(|serial| Some(serial) < order.serial.max(known.serial)) {
            let what = format!("the page of {name} is older than what was seen of it");
            return Err(Failure::transient("stale_page", what));
        }
        if known.digest.as_ref() == Some(&found.digest) && !order.whole {
            return Ok(());
        }
        let first = known.versions.is_empty();
        for version in found.all.difference(&known.versions).filter(|_| !first) {
            tracing::info!(name, version, wanted = known.wanted.len(), "a new version");
            for options in &known.wanted {
                self.order((order.ecosystem.as_str(), name), version, options, lease).await?;
            }
        }
        self.packages.seen(&package, found).await
    }

    /// Looks at everything in use, sends again what was ordered and has not ended, mends groups, and
    /// forgets what nobody wants any more.
    pub(super) async fn reconcile(&self, lease: &Lease) -> Result<(), Failure> {
        self.look_at_used(PYPI, true, lease).await?;
        self.look_at_others(true, lease).await?;
        let rows = self.builds.all().await?;
        let idle = lease.is_first_idle().await?;
        let again = if idle { Again::Unheard } else { Again::Expired };
        for row in rows.iter().filter(|row| row.state == State::Ordered) {
            let Some(request) = row.request() else { continue };
            if self.order_build(request, again, lease).await? {
                tracing::info!(row.package, row.version, "ordered again");
            }
        }
        self.groups.mend().await?;
        retention::sweep(self.retention, &self.builds, &self.packages, &rows).await?;
        retention::sweep_strays(self.retention, &self.builds, &self.artifacts).await
    }

    async fn order(
        &self,
        (ecosystem, name): (&str, &str),
        version: &str,
        options: &str,
        lease: &Lease,
    ) -> Result<(), Failure> {
        let (grammar, info) = self.builder(ecosystem).await?;
        let options = Options::parse(options, &grammar.options)
            .map_err(|e| Failure::permanent("options", format!("{name} {options}: {e}")))?;
        let request = Request::new(grammar.name, name, version, options, info)?;
        self.order_build(request, Again::Expired, lease).await.map(drop)
    }
}

/// The validator to ask with. An old page has its old one, and "unchanged" has no serial to be known by:
/// who looks for a change that is not seen yet asks for the whole page.
fn validator<'k>(known: &'k Known, order: &RefreshOrder) -> Option<&'k str> {
    let news = order.serial.is_some() && order.serial > known.serial;
    known.validator.as_deref().filter(|_| !order.whole && !news)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_looks_for_a_change_is_not_told_that_an_old_page_is_unchanged() {
        let known = Known { validator: Some("e".into()), serial: Some(5), ..Known::default() };
        let asked = |serial, whole| {
            validator(&known, &RefreshOrder { serial, whole, ..RefreshOrder::default() }).is_some()
        };
        assert!(asked(None, false) && asked(Some(5), false) && asked(Some(4), false));
        assert!(!asked(Some(6), false) && !asked(None, true) && !asked(Some(5), true));
        let unseen = Known { serial: None, ..known.clone() };
        let order = RefreshOrder { serial: Some(1), ..RefreshOrder::default() };
        assert_eq!(validator(&unseen, &order), None);
    }
}
