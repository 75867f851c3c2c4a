//! The models-cache layout: the weights API, files by their MD5 in `shared-blobs`, links to them, a manifest, and the record
//! that lets Roboflow's own loader use them without a network (SPEC §1.3).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::SystemTime;

use serde_json::{Map, Value, json};
use url::Url;

use super::classic::write_model_type;
use super::download::{Wanted, fetch};
use super::http::Http;
use super::offer::{Offer, Package, Page};
use super::{Choose, Error, Pulled, Watch, create, status_error};
use crate::cache::{self, Host, LayoutKind, ModelId};
use crate::durable::{read_bounded, write_durably};
use crate::provision::lock::{Lock, beside};
use crate::provision::python_json;
use crate::{clock, log};

const BLOBS: &str = "shared-blobs";
const REGISTRY: &str = "offline-weights-registry";
/// Roboflow's own bound.
const PAGES_MAX: usize = 10;
/// Of the record, which lists a model's packages.
const RECORD_BYTES_MAX: u64 = 16 << 20;
/// Of a manifest.
const MANIFEST_MODE: u32 = 0o600;

/// What the weights API offers of a model.
pub fn offer(http: &Http, api: &Url, key: bool, id: &ModelId) -> Result<Offer, Error> {
    let mut found: Option<Offer> = None;
    let mut after: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let mut url = api.join("/models/v1/external/weights").map_err(|error| Error::Settings(error.to_string()))?;
        url.query_pairs_mut().append_pair("modelId", id.as_str());
        if let Some(after) = &after {
            url.query_pairs_mut().append_pair("startAfter", after);
        }
        let (status, document) = http.document(&url, true)?;
        status_error(id.as_str(), status, key)?;
        let page = Page::parse(id.as_str(), &document)?;
        page.skipped.iter().for_each(|why| log::say(&format!("{}: passed over: {why}", id.as_str())));
        match &mut found {
            None => found = Some(page.offer),
            Some(found) => found.packages.extend(page.offer.packages),
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    found.filter(|offer| !offer.packages.is_empty()).ok_or_else(|| {
        Error::offer(id.as_str(), "Roboflow offers no package of it that could be read; was its training finished?")
    })
}

/// Fetches packages of a model; see [`super::Puller::pull`].
pub fn pull(
    http: &Http,
    root: &Path,
    id: &ModelId,
    offer: &Offer,
    choose: &Choose,
    watch: &dyn Watch,
) -> Result<Pulled, Error> {
    let packages = chosen(id, offer, choose)?;
    let blobs = root.join(BLOBS);
    create(&blobs)?;
    // Names of classes are often the same in all of them.
    let wanted: BTreeMap<&str, Wanted> = packages
        .iter()
        .flat_map(|package| package.files.iter().map(move |file| (package, file)))
        .map(|(package, file)| {
            let name = format!("{} {}/{}", offer.model_id, package.id, file.handle);
            let target = blobs.join(&file.md5);
            (file.md5.as_str(), Wanted { name, url: file.url.clone(), md5: Some(file.md5.clone()), target })
        })
        .collect();
    fetch(http, root, &wanted.into_values().collect::<Vec<_>>(), watch)?;
    let slug = ModelId::parse(&offer.model_id)?.models_cache_slug();
    let folder = root.join("models-cache").join(slug);
    create(&folder)?;
    for package in &packages {
        materialize(&blobs, &folder, offer, package)?;
    }
    let own = root.join(id.directory());
    create(&own)?;
    write_model_type(&own, id.as_str(), &offer.task, &offer.architecture, offer.variant.as_deref())?;
    record(root, id, offer, None)?;
    Ok(Pulled {
        id: offer.model_id.clone(),
        layout: LayoutKind::ModelsCache,
        packages: packages.iter().map(|package| package.id.clone()).collect(),
        dir: folder,
    })
}

/// The packages that are wanted, in their order.
fn chosen<'a>(id: &ModelId, offer: &'a Offer, choose: &Choose) -> Result<Vec<&'a Package>, Error> {
    let find = |name: &String| {
        offer.package(name).ok_or_else(|| {
            let known: Vec<&str> = offer.packages.iter().map(|package| package.id.as_str()).collect();
            Error::offer(id.as_str(), format!("no package `{name}`; there are {}", known.join(", ")))
        })
    };
    match choose {
        Choose::All => Ok(offer.packages.iter().collect()),
        Choose::Named(names) => names.iter().map(find).collect(),
        Choose::Best => {
            let recorded = json!({"canonical_model_id": offer.model_id, "packages": offer.recorded_packages()});
            let best = cache::preferred(&offer.offered(), &recorded, &Host::default());
            Ok(vec![find(&best.map_err(|why| Error::offer(id.as_str(), why))?)?])
        }
    }
}

/// Makes the folder of a package: links to the blobs and the manifest. Whole or not at all.
fn materialize(blobs: &Path, folder: &Path, offer: &Offer, package: &Package) -> Result<(), Error> {
    let target = folder.join(&package.id);
    let _lock = Lock::acquire(&folder.join(format!(".{}.materialization.lock", package.id)), &|| 0)?;
    let manifest = python_json::line(&package.model_config(offer));
    let there = target.join("model_config.json");
    let links = |file: &super::offer::File| fs::canonicalize(target.join(&file.handle)).is_ok();
    if fs::read(&there).is_ok_and(|found| found == manifest) && package.files.iter().all(links) {
        return Ok(());
    }
    let draft = folder.join(format!(".{}.incoming", package.id));
    let _ = fs::remove_dir_all(&draft);
    create(&draft)?;
    for file in &package.files {
        let link = draft.join(&file.handle);
        create(link.parent().unwrap_or(&draft))?;
        symlink(blobs.join(&file.md5), &link).map_err(Error::io(&link))?;
        fs::write(beside(&link), b"").map_err(Error::io(&link))?;
    }
    let path = draft.join("model_config.json");
    write_durably(&path, &manifest)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(MANIFEST_MODE)).map_err(Error::io(&path))?;
    fs::write(beside(&path), b"").map_err(Error::io(&path))?;
    if target.exists() {
        // Of another time, and incomplete or changed: it makes room, and what of it is still linked stays with the blobs.
        let old = folder.join(format!(".{}.outgoing", package.id));
        let _ = fs::remove_dir_all(&old);
        fs::rename(&target, &old).map_err(Error::io(&target))?;
        fs::rename(&draft, &target).map_err(Error::io(&target))?;
        fs::remove_dir_all(&old).map_err(Error::io(&old))?;
    } else {
        fs::rename(&draft, &target).map_err(Error::io(&target))?;
    }
    Ok(crate::durable::sync_directory(&crate::durable::RealDisk, folder)?)
}

/// Writes what the API said of the model into the registry, beside what is there; `proven` are packages that were loaded and
/// ran.
pub fn record(root: &Path, asked: &ModelId, offer: &Offer, proven: Option<&[String]>) -> Result<(), Error> {
    let folder = root.join(REGISTRY);
    create(&folder)?;
    let slug = ModelId::parse(&offer.model_id)?.models_cache_slug();
    let path = folder.join(format!("{slug}.json"));
    let _lock = Lock::acquire(&beside(&path), &|| 0)?;
    let there = read_bounded(&path, RECORD_BYTES_MAX)?.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    let there = there.unwrap_or_default();
    let id_of = |package: &Value| package["package_id"].as_str().map(str::to_owned);
    let known = there["packages"].as_array().cloned().unwrap_or_default();
    let packages: BTreeMap<String, Value> = known
        .into_iter()
        .chain(offer.recorded_packages())
        .filter_map(|package| Some((id_of(&package)?, package)))
        .collect();
    let mut aliases: Vec<String> = there["requested_aliases"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|alias| alias.as_str().map(str::to_owned))
        .chain((asked.as_str() != offer.model_id).then(|| asked.as_str().to_owned()))
        .collect();
    aliases.sort();
    aliases.dedup();
    let now = format!("{}+00:00", clock::iso(SystemTime::now()));
    let mut has_proven: Map<String, Value> = there["proven"].as_object().cloned().unwrap_or_default();
    for package in proven.unwrap_or_default() {
        has_proven.insert(package.clone(), json!({"last_proven_at": now}));
    }
    let content = json!({
        "format_version": 1,
        "canonical_model_id": offer.model_id,
        "requested_aliases": aliases,
        "recorded_at": now,
        "source": "cli-install",
        "model": offer.recorded_model(),
        "packages": packages.into_values().collect::<Vec<_>>(),
        "proven": has_proven,
    });
    Ok(write_durably(&path, &python_json::indented(&python_json::sorted(&content), 2))?)
}
