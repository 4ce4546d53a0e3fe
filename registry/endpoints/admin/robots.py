"""Robots: accounts of machines, and their secrets."""

from functools import partial

from registry.admin import changes
from registry.auth import accounts
from registry.endpoints.admin.asking import Asked, Right
from registry.endpoints.admin.models import NewRobot, Page, Robot, Robots
from registry.endpoints.admin.operation import Operation
from registry.metadata import robots
from storage.database import Connection


async def listing(asked: Asked, query: Page) -> Robots:
    found = await asked.read(partial(robots.listing, last=query.last, limit=query.n + 1))
    if len(found) > query.n:
        asked.link_next("/robots", found[query.n - 1].name, query.n)
    return Robots(robots=[Robot.of(robot) for robot in found[: query.n]])


async def show(asked: Asked) -> Robot:
    return Robot.of(await asked.read(partial(changes.robot, name=asked.name)))


async def create(asked: Asked, body: NewRobot) -> Robot:
    asked.note(name=body.name)

    def unit(db: Connection) -> robots.Robot:
        accounts.create_robot(db, body.name, body.description, asked.me)
        return changes.robot(db, body.name)

    return Robot.of(await asked.change(unit))


async def delete(asked: Asked) -> None:
    await asked.change(partial(accounts.delete_robot, name=asked.name))


async def disable(asked: Asked) -> None:
    await asked.change(partial(accounts.set_robot_disabled, name=asked.name, is_disabled=True))


async def enable(asked: Asked) -> None:
    await asked.change(partial(accounts.set_robot_disabled, name=asked.name, is_disabled=False))


OPERATIONS = (
    Operation("GET", "/robots", Right.ADMIN, listing, "List robots"),
    Operation("POST", "/robots", Right.ADMIN, create, "Make a robot", "robot.add", 201, (409,)),
    Operation("GET", "/robots/{name}", Right.ADMIN, show, "Show a robot"),
    Operation("DELETE", "/robots/{name}", Right.ADMIN, delete, "Delete a robot", "robot.delete"),
    Operation("PUT", "/robots/{name}/disabled", Right.ADMIN, disable, "Stop a robot", "robot.disable"),
    Operation(
        "DELETE", "/robots/{name}/disabled", Right.ADMIN, enable, "Let a robot work again", "robot.enable"
    ),
)
