//! What an operator's call brings. What is wrong with it is told in the shape of every other refusal.

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, OptionalFromRequest, Query, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::error::Refused;

/// A body in JSON.
pub(super) struct Body<T>(pub(super) T);

/// The parameters behind the path.
pub(super) struct Parameters<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let found = <Json<T> as FromRequest<S>>::from_request(request, state).await;
        found.map(|Json(body)| Self(body)).map_err(|rejection| Refused::invalid(rejection.body_text()))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> OptionalFromRequest<S> for Body<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Option<Self>, Refused> {
        let found = <Json<T> as OptionalFromRequest<S>>::from_request(request, state).await;
        let found = found.map_err(|rejection| Refused::invalid(rejection.body_text()))?;
        Ok(found.map(|Json(body)| Self(body)))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let found = Query::<T>::from_request_parts(parts, state).await;
        found.map(|Query(found)| Self(found)).map_err(|rejection| Refused::invalid(rejection.body_text()))
    }
}
