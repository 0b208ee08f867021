//! Between the connection and the router: keeps the connection's count of requests under way.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tower::Service;

use crate::http::io::{Activity, ActivityGuard};
use crate::http::observe::Peer;

/// The router as one connection sees it.
#[derive(Debug, Clone)]
pub struct ConnectionService {
    router: Router,
    activity: Arc<Activity>,
    peer: Peer,
}

impl ConnectionService {
    /// The service of a connection.
    #[must_use]
    pub fn new(router: Router, activity: Arc<Activity>, peer: Peer) -> Self {
        Self { router, activity, peer }
    }
}

impl hyper::service::Service<Request<Incoming>> for ConnectionService {
    type Response = Response<CountedBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let guard = self.activity.begin();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(self.peer);
        let answer = self.router.clone().call(request);
        Box::pin(async move {
            let response = answer.await?;
            Ok(response.map(|body| CountedBody { body, _guard: guard }))
        })
    }
}

/// A response body; the request ends when it is dropped.
#[derive(Debug)]
pub struct CountedBody {
    body: Body,
    _guard: ActivityGuard,
}

impl http_body::Body for CountedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
