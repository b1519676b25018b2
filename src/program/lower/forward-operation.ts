/** @file The forward of a stage on one device: from feeds and received values to what is saved, sent on and given to the host. */
import { type ValueName, valueNamed } from '../../graph/types.ts';
import { parameterSlot } from './banks.ts';
import { fedSlot, type Message, type Operation, type Site, samplesOf } from './operation.ts';
import { outgoing } from './outgoing.ts';
import type { Route } from './routes.ts';
import { arrivals, departures } from './transfers.ts';
import { arrivalSlot, fedBackRoute, heldRoutes, heldSlot, innerSlot, type OpenSlot, readRoute } from './values.ts';
import type { Join, Part } from './wire.ts';

/** Graph values of a stage that lie in slots of their own on its rank: inputs, and what routes begin with. */
export function namedSlots(site: Site): ReadonlyMap<ValueName, OpenSlot> {
	const { job, builds, routed, stage } = site;
	const { stage: graph } = builds.built(routed, stage, samplesOf(site));
	const slots = new Map<ValueName, OpenSlot>();
	const scope = job.scopes[stage.backbone]!;
	for (const { name } of graph.parameters) slots.set(name as ValueName, parameterSlot(scope, name));
	for (const [input, name] of graph.feeds) {
		const route = fedBackRoute(routed, stage, input);
		slots.set(name, route ? heldSlot(route, stage) : fedSlot(site, input).slot);
	}
	for (const [id, name] of graph.receives) slots.set(name, heldSlot(readRoute(routed, stage, id)!, stage));
	for (const [id, name] of graph.sends) {
		const route = heldRoutes(routed, stage).find((r) => r.maker === stage && r.id === id);
		if (route) slots.set(name, heldSlot(route, stage));
	}
	return slots;
}

/** The forward of the site's stage; undefined when nobody wants what it makes. */
export function forwardOperation(site: Site): Operation | undefined {
	const { job, builds, routed, stage, where } = site;
	if (!routed.routes.some(({ maker }) => maker === stage)) return undefined;
	const built = builds.built(routed, stage, samplesOf(site));
	const { forward } = built;
	const slots = new Map(namedSlots(site));
	const [first, end] = job.rows(where.rank, where.i);
	const feeds: Operation['feeds'][number][] = [];
	const receives: Operation['receives'][number][] = [];
	const joins: Join[] = [];
	const receive = (route: Route, input: ValueName) => {
		const { rank } = route.parents.get(stage)!;
		if (rank === where.rank) return;
		const pieces = arrivals(job, where, rank).map((t) => ({ ...t, slot: arrivalSlot(route, t.suffix) }));
		for (const { device, slot } of pieces) receives.push({ slot, from: device });
		if (pieces.length === 1) return;
		const named = pieces.map(({ slot, suffix, rows }) => {
			const name = `${input}${suffix}` as ValueName;
			slots.set(name, slot);
			return { name, rows: rows[1] - rows[0] };
		});
		joins.push({ value: valueNamed(forward, input), terms: [named] });
	};
	for (const [input, name] of built.stage.feeds) {
		const route = fedBackRoute(routed, stage, input);
		if (route) receive(route, name);
		else feeds.push({ ...fedSlot(site, input), rows: [first, end] });
	}
	for (const [id, name] of built.stage.receives) receive(readRoute(routed, stage, id)!, name);

	const given = new Set(forward.inputs.filter((name) => !joins.some(({ value }) => value.name === name)));
	const saved = new Set(built.backward ? built.saved : []);
	const outputs: ValueName[] = [];
	const parts: (readonly [Part, OpenSlot])[] = [];
	const sends: Message[] = [];
	const fetches: Operation['fetches'][number][] = [];
	for (const route of heldRoutes(routed, stage)) {
		const made = route.maker === stage;
		const pairs = made ? built.stage.sends : [...built.stage.receives, ...built.stage.feeds];
		const id = !made && route.fedBackAs !== undefined ? route.fedBackAs : route.id;
		const name = pairs.find(([other]) => other === id)![1];
		const children = route.children.get(stage) ?? [];
		const isShared = !made && route.parents.get(stage)!.rank === stage.rank;
		const isKept = isShared || saved.has(name) || route.outputs.length > 0 || children.some(({ rank }) => rank === stage.rank);
		const away = children
			.filter(({ rank }) => rank !== stage.rank)
			.flatMap(({ rank }) => departures(job, where, rank).map((transfer) => ({ transfer, as: arrivalSlot(route, transfer.suffix) })));
		const out = outgoing(name, slots.get(name)!, isKept, away);
		if (!given.has(name) && (isKept || out.moved)) outputs.push(name);
		parts.push(...out.parts);
		sends.push(...out.sends);
		if (made)
			for (const output of route.outputs)
				fetches.push({ slot: slots.get(name)!, name: `${job.scopes[stage.backbone]!}${output}`, row: first });
	}
	for (const name of saved) {
		if (given.has(name) || outputs.includes(name)) continue;
		outputs.push(name);
		if (!slots.has(name)) slots.set(name, innerSlot('saved', stage, name));
	}
	const { id, graph } = builds.variant(`stage${stage.number}.${stage.sweep ? 'sweep' : 'forward'}`, end - first, forward, {
		joins,
		parts: parts.map(([part]) => part),
		outputs,
	});
	return {
		feeds,
		receives,
		graph: id,
		inputs: graph.inputs.map((name) => slots.get(name)!),
		outputs: [...outputs.map((name) => slots.get(name)!), ...parts.map(([, slot]) => slot)],
		fetches,
		sends,
	};
}
