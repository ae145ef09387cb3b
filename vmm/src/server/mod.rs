//! HTTP/1.1 over the Unix socket: who is asking, for what, and the answer as it comes.
//!
//! Owns routes, the streaming of lines the taking-in of uploads and the handing-out of disks. It decides nothing about VMs: each
//! handler hands a request to one method of [`Manager`], which runs on a thread where it may block.

mod audit;
mod caller;
mod console;
mod download;
mod lend;
mod lines;
mod log;
mod tail;
mod upload;

use crate::{
    api::{
        self, AddDisks, AddForward, AddNic, ApiError, AskAgent, CompactImage, CompactVms,
        ControlVms, CreateNetwork, CreateProfile, CreateSnapshots, CreateVms, DeleteVms,
        DiskUsageRequest, ErrorKind, ExtendPool, InitRequest, LookAtTemplate, NamedDisks,
        NamedSnapshots, NetPort, NoteVms, PublishTemplate, QmpCommand, RemoveNic, RenameImage,
        RenewVms, RepairPool, ResizeImage, ResizeVms, StartVms, StopVms, UndeleteVms, VerifyImage,
        VmNumber, routes,
    },
    manager::{Caller, Manager},
};
use audit::Concerns;
use axum::{
    Json, Router,
    body::Body,
    extract::{ConnectInfo, Path, State, rejection::JsonRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Serialize;
use std::{str::FromStr, sync::Arc};
use tokio::net::UnixListener;

type Shared = State<Arc<Manager>>;

/// Answers requests on `listener` until the process ends.
///
/// # Errors
/// When accepting connections fails for good.
pub async fn serve(listener: UnixListener, manager: Arc<Manager>) -> std::io::Result<()> {
    let service = router(manager).into_make_service_with_connect_info::<Caller>();
    axum::serve(listener, service).await
}

fn router(manager: Arc<Manager>) -> Router {
    Router::new()
        .route(routes::HOST, get(host))
        .route(routes::DOCTOR, get(doctor))
        .route(routes::INIT, post(init))
        .route(routes::REMOVE, post(remove))
        .route(routes::POOL, get(pool))
        .route(routes::POOL_EXTEND, post(extend_pool))
        .route(routes::POOL_CHECK, post(check_pool))
        .route(routes::POOL_REPAIR, post(repair_pool))
        .route(routes::POOL_USAGE, post(disk_usage))
        .route(routes::IMAGES, get(images))
        .route(
            "/v1/images/{name}",
            get(image).post(upload::import).delete(remove_image),
        )
        .route("/v1/images/{name}/content", get(download::image))
        .route("/v1/images/{name}/verify", post(verify_image))
        .route("/v1/images/{name}/resize", post(resize_image))
        .route("/v1/images/{name}/rename", post(rename_image))
        .route(routes::PROFILES, get(profiles))
        .route(
            "/v1/profiles/{name}",
            get(profile).post(create_profile).delete(delete_profile),
        )
        .route(routes::TEMPLATES, get(templates))
        .route("/v1/templates/{name}", get(template))
        .route(
            "/v1/templates/{name}/published",
            post(publish_template).delete(unpublish_template),
        )
        .route(routes::CHECK_TEMPLATE, post(check_template))
        .route(routes::TEMPLATE_ARGUMENTS, post(template_arguments))
        .route(routes::EXPLAIN_TEMPLATE, post(explain_template))
        .route(routes::VMS, get(vms))
        .route(routes::CREATE, post(create))
        .route(routes::START, post(start))
        .route(routes::STOP, post(stop))
        .route(routes::DELETE, post(delete))
        .route(routes::CONTROL, post(control))
        .route(routes::RENEW, post(renew))
        .route(routes::UNDELETE, post(undelete))
        .route(routes::RESIZE, post(resize))
        .route(routes::NOTE, post(note))
        .route(routes::COMPACT, post(compact))
        .route("/v1/images/{name}/compact", post(compact_image))
        .route(routes::DISKS, get(all_disks))
        .route(routes::ADD_DISKS, post(add_disks))
        .route(routes::REMOVE_DISKS, post(remove_disks))
        .route("/v1/vms/{number}/disks", get(disks))
        .route(routes::SNAPSHOTS, get(all_snapshots))
        .route(routes::CREATE_SNAPSHOTS, post(create_snapshots))
        .route(routes::RESTORE_SNAPSHOTS, post(restore_snapshots))
        .route(routes::DELETE_SNAPSHOTS, post(delete_snapshots))
        .route("/v1/vms/{number}/snapshots", get(snapshots))
        .route("/v1/vms/{number}", get(vm))
        .route("/v1/vms/{number}/content", get(download::vm))
        .route("/v1/vms/{number}/xml", get(xml))
        .route("/v1/vms/{number}/boot", get(boot))
        .route("/v1/vms/{number}/screenshot", get(screenshot))
        .route("/v1/vms/{number}/agent", post(ask_agent))
        .route("/v1/vms/{number}/qmp", post(qmp))
        .route("/v1/vms/{number}/trace", get(trace))
        .route(routes::QUOTAS, get(quotas))
        .route("/v1/quotas/{user}", get(quota))
        .route(routes::FORWARDS, get(forwards))
        .route(routes::ADD_FORWARD, post(add_forward))
        .route(routes::DELETE_FORWARD, post(delete_forward))
        .route(routes::ADD_NIC, post(add_nic))
        .route(routes::REMOVE_NIC, post(remove_nic))
        .route(routes::NETWORKS, get(networks))
        .route(
            "/v1/networks/{name}",
            get(network).post(create_network).delete(delete_network),
        )
        .route(routes::LEASES, get(leases))
        .route("/v1/vms/{number}/console", get(console::attach))
        .route("/v1/vms/{number}/log", get(log::read))
        .route("/v1/vms/{number}/disk", get(lend::attach))
        .fallback(|| async {
            failure(&ApiError::new(
                ErrorKind::NotFound,
                "there is no such path in this API",
            ))
        })
        .with_state(manager)
}

/// A response that is nothing but an error.
fn failure(error: &ApiError) -> Response {
    let status =
        StatusCode::from_u16(error.kind.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, Json(error)).into_response()
}

/// Runs what may block on a thread where it may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|panic| {
            Err(ApiError::new(
                ErrorKind::Internal,
                format!("fvmd failed while at work: {panic}"),
            )
            .hint("this is a bug in fvm; `journalctl -u fvmd` has more"))
        })
}

/// The answer to a question.
async fn answer<T: Serialize + Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Response {
    match blocking(work).await {
        Ok(report) => Json(report).into_response(),
        Err(error) => failure(&error),
    }
}

/// A request's body, or why it is none.
fn body<T>(json: Result<Json<T>, JsonRejection>) -> Result<T, ApiError> {
    json.map(|Json(value)| value)
        .map_err(|rejection| ApiError::new(ErrorKind::Usage, rejection.body_text()))
}

/// A path's VM number, or why it is none.
fn number(text: &str) -> Result<VmNumber, ApiError> {
    text.parse().map_err(|_| {
        ApiError::new(
            ErrorKind::Usage,
            format!("'{}' is not a VM number", text.escape_debug()),
        )
    })
}

/// A path's name of an image, a profile or a network, or why it is none.
fn name<N: FromStr<Err = api::InvalidName>>(text: &str) -> Result<N, ApiError> {
    text.parse()
        .map_err(|error: api::InvalidName| ApiError::new(ErrorKind::Usage, error.to_string()))
}

/// Wraps an operation on what the path names, whose answer is lines.
macro_rules! named_operation {
    ($handler:ident, $request:ty) => {
        async fn $handler(
            State(manager): Shared,
            ConnectInfo(caller): ConnectInfo<Caller>,
            Path(text): Path<String>,
            json: Result<Json<$request>, JsonRejection>,
        ) -> Response {
            match name(&text).and_then(|name| Ok((name, body(json)?))) {
                Ok((name, request)) => lines::respond(move |progress| {
                    let words = format!("{} {name} {}", stringify!($handler), request.what());
                    let result = manager.$handler(caller, &name, &request, progress);
                    audit::recorded(caller, &words, result)
                }),
                Err(error) => failure(&error),
            }
        }
    };
}

named_operation!(verify_image, VerifyImage);
named_operation!(resize_image, ResizeImage);
named_operation!(compact_image, CompactImage);
named_operation!(rename_image, RenameImage);
named_operation!(create_profile, CreateProfile);
named_operation!(create_network, CreateNetwork);

/// Wraps the end of what the path names, whose answer is lines.
macro_rules! named_end {
    ($handler:ident) => {
        async fn $handler(
            State(manager): Shared,
            ConnectInfo(caller): ConnectInfo<Caller>,
            Path(text): Path<String>,
        ) -> Response {
            match name(&text) {
                Ok(name) => lines::respond(move |_| {
                    let words = format!("{} {name}", stringify!($handler));
                    audit::recorded(caller, &words, manager.$handler(caller, &name))
                }),
                Err(error) => failure(&error),
            }
        }
    };
}

named_end!(remove_image);
named_end!(delete_profile);
named_end!(delete_network);

/// Wraps an operation whose answer is lines.
macro_rules! operation {
    ($name:ident, $request:ty, $method:ident) => {
        async fn $name(
            State(manager): Shared,
            ConnectInfo(caller): ConnectInfo<Caller>,
            json: Result<Json<$request>, JsonRejection>,
        ) -> Response {
            match body(json) {
                Ok(request) => lines::respond(move |progress| {
                    let words = format!("{} {}", stringify!($name), request.what());
                    audit::recorded(caller, &words, manager.$method(caller, &request, progress))
                }),
                Err(error) => failure(&error),
            }
        }
    };
}

operation!(init, InitRequest, init);
operation!(extend_pool, ExtendPool, extend_pool);
operation!(repair_pool, RepairPool, repair_pool);
operation!(create, CreateVms, create);
operation!(start, StartVms, start);
operation!(stop, StopVms, stop);
operation!(delete, DeleteVms, delete);
operation!(control, ControlVms, control);
operation!(renew, RenewVms, renew);
operation!(undelete, UndeleteVms, undelete);
operation!(resize, ResizeVms, resize);
operation!(note, NoteVms, note);
operation!(compact, CompactVms, compact);
operation!(add_disks, AddDisks, add_disks);
operation!(remove_disks, NamedDisks, remove_disks);
operation!(add_forward, AddForward, add_forward);
operation!(delete_forward, NetPort, delete_forward);
operation!(add_nic, AddNic, add_nic);
operation!(remove_nic, RemoveNic, remove_nic);
operation!(create_snapshots, CreateSnapshots, create_snapshots);
operation!(restore_snapshots, NamedSnapshots, restore_snapshots);
operation!(delete_snapshots, NamedSnapshots, delete_snapshots);

/// Wraps a look at a template, which changes nothing.
macro_rules! look {
    ($name:ident) => {
        async fn $name(
            State(manager): Shared,
            ConnectInfo(caller): ConnectInfo<Caller>,
            json: Result<Json<LookAtTemplate>, JsonRejection>,
        ) -> Response {
            match body(json) {
                Ok(request) => lines::respond(move |_| manager.$name(caller, &request)),
                Err(error) => failure(&error),
            }
        }
    };
}

look!(check_template);
look!(template_arguments);
look!(explain_template);

async fn templates(State(manager): Shared) -> Response {
    answer(move || manager.template_list()).await
}

async fn publish_template(
    State(manager): Shared,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Path(name): Path<String>,
    json: Result<Json<PublishTemplate>, JsonRejection>,
) -> Response {
    match body(json) {
        Ok(request) => lines::respond(move |_| {
            let words = format!("publish_template {name}");
            let result = manager.publish_template(caller, &name, &request);
            audit::recorded(caller, &words, result)
        }),
        Err(error) => failure(&error),
    }
}

async fn unpublish_template(
    State(manager): Shared,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Path(name): Path<String>,
) -> Response {
    lines::respond(move |_| {
        let words = format!("unpublish_template {name}");
        audit::recorded(caller, &words, manager.unpublish_template(caller, &name))
    })
}

async fn template(State(manager): Shared, Path(name): Path<String>) -> Response {
    answer(move || manager.template(&name)).await
}

async fn xml(State(manager): Shared, Path(text): Path<String>) -> Response {
    answer(move || manager.vm_xml(number(&text)?)).await
}

async fn remove(State(manager): Shared, ConnectInfo(caller): ConnectInfo<Caller>) -> Response {
    lines::respond(move |progress| {
        audit::recorded(caller, "remove this host", manager.remove(caller, progress))
    })
}

async fn host(State(manager): Shared) -> Response {
    answer(move || manager.host_report()).await
}

async fn doctor(State(manager): Shared) -> Response {
    answer(move || manager.doctor()).await
}

async fn pool(State(manager): Shared) -> Response {
    answer(move || manager.pool_status()).await
}

async fn check_pool(State(manager): Shared) -> Response {
    lines::respond(move |progress| manager.check_pool(progress))
}

async fn disk_usage(
    State(manager): Shared,
    json: Result<Json<DiskUsageRequest>, JsonRejection>,
) -> Response {
    match body(json) {
        Ok(request) => lines::respond(move |_| manager.disk_usage(&request)),
        Err(error) => failure(&error),
    }
}

async fn images(State(manager): Shared) -> Response {
    answer(move || manager.image_list()).await
}

async fn image(State(manager): Shared, Path(text): Path<String>) -> Response {
    answer(move || manager.image(&name(&text)?)).await
}

async fn profiles(State(manager): Shared) -> Response {
    answer(move || manager.profile_list()).await
}

async fn profile(State(manager): Shared, Path(text): Path<String>) -> Response {
    answer(move || manager.profile(&name(&text)?)).await
}

async fn all_disks(State(manager): Shared) -> Response {
    answer(move || manager.disk_list(None)).await
}

async fn disks(State(manager): Shared, Path(text): Path<String>) -> Response {
    answer(move || manager.disk_list(Some(number(&text)?))).await
}

async fn all_snapshots(State(manager): Shared) -> Response {
    answer(move || manager.snapshot_list(None)).await
}

async fn snapshots(State(manager): Shared, Path(text): Path<String>) -> Response {
    answer(move || manager.snapshot_list(Some(number(&text)?))).await
}

async fn vms(State(manager): Shared) -> Response {
    answer(move || manager.list()).await
}

async fn vm(State(manager): Shared, Path(text): Path<String>) -> Response {
    answer(move || manager.look_at(number(&text)?)).await
}

async fn boot(State(manager): Shared, Path(text): Path<String>) -> Response {
    answer(move || manager.boot(number(&text)?)).await
}

async fn screenshot(State(manager): Shared, Path(text): Path<String>) -> Response {
    match blocking(move || manager.screenshot(number(&text)?)).await {
        Ok(picture) => typed("image/png", Body::from(picture)),
        Err(error) => failure(&error),
    }
}

async fn ask_agent(
    State(manager): Shared,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Path(text): Path<String>,
    json: Result<Json<AskAgent>, JsonRejection>,
) -> Response {
    match number(&text).and_then(|vm| Ok((vm, body(json)?))) {
        Ok((vm, request)) => lines::respond(move |_| {
            let words = format!("ask the agent of VM {vm}: {}", request.word());
            audit::recorded(caller, &words, manager.ask_agent(caller, vm, &request))
        }),
        Err(error) => failure(&error),
    }
}

async fn qmp(
    State(manager): Shared,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Path(text): Path<String>,
    json: Result<Json<QmpCommand>, JsonRejection>,
) -> Response {
    match number(&text).and_then(|vm| Ok((vm, body(json)?))) {
        Ok((vm, command)) => lines::respond(move |_| {
            let words = format!("qmp VM {vm}: {}", command.execute);
            audit::recorded(caller, &words, manager.qmp(caller, vm, &command))
        }),
        Err(error) => failure(&error),
    }
}

async fn trace(State(manager): Shared, Path(text): Path<String>) -> Response {
    answer(move || manager.trace(number(&text)?)).await
}

async fn quotas(State(manager): Shared, ConnectInfo(caller): ConnectInfo<Caller>) -> Response {
    answer(move || manager.quotas(caller)).await
}

async fn quota(State(manager): Shared, Path(user): Path<String>) -> Response {
    answer(move || manager.quota(&user)).await
}

async fn forwards(State(manager): Shared) -> Response {
    answer(move || manager.forward_list()).await
}

async fn networks(State(manager): Shared) -> Response {
    answer(move || manager.network_list()).await
}

async fn network(State(manager): Shared, Path(text): Path<String>) -> Response {
    answer(move || manager.network(&name(&text)?)).await
}

async fn leases(State(manager): Shared) -> Response {
    answer(move || manager.leases()).await
}

/// A body of bytes of the given type.
fn typed(content_type: &'static str, body: Body) -> Response {
    ([(axum::http::header::CONTENT_TYPE, content_type)], body).into_response()
}
