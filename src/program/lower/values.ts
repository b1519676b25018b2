/** @file Slots of a stage's values on one device, as names that end in # where the number of the micro-batch follows. */
import type { ValueName } from '../../graph/types.ts';
import { type SlotId, slotId } from '../types.ts';
import type { Builds, Routed } from './builds.ts';
import type { Stage } from './job.ts';
import type { Route } from './routes.ts';

/** A slot with the number of the micro-batch left open. */
export type OpenSlot = string;

/** The slot of micro-batch `micro`; slots of parameters and gradients are the same for all. */
export function slotOf(open: OpenSlot, micro: number): SlotId {
	return slotId(open.endsWith('#') ? `${open}${micro}` : open);
}

/** Where a holder of a route has its value: what it made, what it received, or the slot of an earlier stage on its rank. */
export function heldSlot(route: Route, stage: Stage): OpenSlot {
	const parent = route.parents.get(stage);
	if (!parent) return `${route.key}#`;
	return parent.rank === stage.rank ? heldSlot(route, parent) : arrivalSlot(route, '');
}

/** Where rows of a value arrive. */
export function arrivalSlot(route: Route, suffix: string): OpenSlot {
	return `in:${route.key}${suffix}#`;
}

/** Where, at its parent, the gradient that a stage gives back for a route arrives. Stages that hold the value on one rank may each get one. */
export function gradientArrival(builds: Builds, routed: Routed, route: Route, stage: Stage, suffix = ''): OpenSlot {
	const { rank } = route.parents.get(stage)!;
	const givers = [...route.parents].filter(([child, parent]) => parent.rank === rank && builds.givesGradient(routed, child, route));
	return `gradIn:${route.key}${givers.length > 1 ? `@${stage.index}` : ''}${suffix}#`;
}

/** The route of a value that the stage reads: by live id, or by the chain input that a sweep's output is fed back as. */
export function readRoute({ routes }: Routed, stage: Stage, id: string): Route | undefined {
	return routes.find((route) => route.id === id && route.parents.has(stage) && route.fedBackAs === undefined);
}

/** The route that feeds a chain input of the stage in place of the host. */
export function fedBackRoute({ routes }: Routed, stage: Stage, input: string): Route | undefined {
	return routes.find((route) => route.fedBackAs === input && route.parents.has(stage));
}

/** Routes that begin at the stage or are handed on by it. */
export function heldRoutes({ routes }: Routed, stage: Stage): readonly Route[] {
	return routes.filter((route) => route.maker === stage || (route.parents.has(stage) && route.children.has(stage)));
}

/** Slot of what a stage saves for its backward, or hands from one part of it to the other. */
export function innerSlot(kind: 'saved' | 'handed' | 'gradSum', { number }: Stage, name: ValueName): OpenSlot {
	return `${kind}:${number}/${name}#`;
}
