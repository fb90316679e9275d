"""Routes from called numbers to agents: see them, and change those that are kept in the database."""

from __future__ import annotations

from starlette.responses import Response

from bridge.auth.api_keys import Scope
from bridge.calls.numbers import normal_pattern
from bridge.calls.routing import RoutingError
from bridge.calls.rules import Route
from bridge.server.api.errors import NO_STORE, ApiError, json_response, wrong_parameter
from bridge.server.api.operations import Arrival, Operation, Parameter
from bridge.server.api.ports import ApiPorts, RoutesPort
from bridge.server.api.query import parse_number
from bridge.server.api.schemas import RouteEntry, RouteList

TAG = "routes"


NUMBER = Parameter("number", "query", "Number pattern of the route.", {"type": "string"}, "+4930*", required=True)
PROVIDER = Parameter("provider", "query", "Carrier of the route; left out = any.", {"type": "string"}, "twilio")


def route_operations(ports: ApiPorts) -> tuple[Operation, ...]:
    """The operations of this module."""
    routes = _Routes(ports.routes)
    return (
        Operation(
            "listRoutes",
            "GET",
            "/v1/routes",
            TAG,
            "List routes",
            "The routes in force, in the order in which they are tried.",
            routes.list,
            RouteList,
        ),
        Operation(
            "putRoute",
            "PUT",
            "/v1/routes",
            TAG,
            "Add or replace a route",
            "Replaces the database's route of its `number` and `provider`, or adds one; calls in progress keep theirs.",
            routes.put,
            RouteEntry,
            Scope.ADMIN,
            body=Route,
            errors=(400, 413, 415, 422),
        ),
        Operation(
            "deleteRoute",
            "DELETE",
            "/v1/routes",
            TAG,
            "Remove a route",
            "Removes a route from the database; calls in progress keep it.",
            routes.delete,
            None,
            Scope.ADMIN,
            parameters=(NUMBER, PROVIDER),
            errors=(400, 404),
        ),
    )


class _Routes:
    def __init__(self, routes: RoutesPort) -> None:
        self._routes = routes

    async def list(self, arrival: Arrival) -> Response:
        return json_response(RouteList(routes=[_entry(entry.route, entry.source) for entry in self._routes.listed()]))

    async def put(self, arrival: Arrival) -> Response:
        try:
            route = await self._routes.put(arrival.body)
        except RoutingError as error:
            raise ApiError(422, "invalid_route", "; ".join(error.mistakes)) from None
        return json_response(_entry(route, "database"))

    async def delete(self, arrival: Arrival) -> Response:
        number, provider = _number(arrival), arrival.query.get("provider", "").lower()
        if not await self._routes.delete(number, provider):
            raise ApiError(
                404,
                "no_such_route",
                "The database has no route of this number and provider; those of the file are changed in the file.",
            )
        return Response(status_code=204, headers=NO_STORE)


def _number(arrival: Arrival) -> str:
    """The wanted number pattern; a leading space was a plus that was not percent-encoded."""
    number = arrival.query.get("number")
    if number is None:
        raise wrong_parameter("number", "is missing; give the number pattern of the route")
    try:
        return normal_pattern(parse_number(number))
    except ValueError as problem:
        raise wrong_parameter("number", str(problem)) from None


def _entry(route: Route, source: str) -> RouteEntry:
    return RouteEntry(
        number=route.number,
        provider=route.provider,
        source="file" if source == "file" else "database",
        route=route,
    )
