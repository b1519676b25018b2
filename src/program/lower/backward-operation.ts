/** @file The backward of a stage on one device, whole or in its two parts: from saved values and gradients that came back to gradients given back. */
import { type ValueName, valueNamed } from '../../graph/types.ts';
import { gradientSlot } from './banks.ts';
import { namedSlots } from './forward-operation.ts';
import { type Message, type Operation, type Site, samplesOf } from './operation.ts';
import { outgoing } from './outgoing.ts';
import { arrivals, departures } from './transfers.ts';
import { gradientArrival, heldRoutes, innerSlot, type OpenSlot, readRoute } from './values.ts';
import type { Join, Part } from './wire.ts';

/**
 * The whole backward (B), or that for inputs (I) or weights (W), of the site's stage; undefined when there is nothing to compute. Gradients that come back are
 * received, and joined where they come in pieces or from several stages, by the first part that computes anything.
 */
export function backwardOperation(site: Site, kind: 'B' | 'I' | 'W'): Operation | undefined {
	const { job, builds, routed, stage } = site;
	const samples = samplesOf(site);
	const built = builds.built(routed, stage, samples);
	if (!built.backward) return undefined;
	const split = kind === 'B' ? undefined : builds.split(routed, stage, samples)!;
	const graph = split ? (kind === 'I' ? split.input : split.weight) : built.backward;
	if (graph.outputs.length === 0) return undefined;
	const isFirst = kind !== 'W' || split!.input.outputs.length === 0;
	const scope = job.scopes[stage.backbone]!;
	const slots = new Map(namedSlots(site));
	for (const [name, sum, output] of built.weightGrads) slots.set(sum, gradientSlot(scope, name)).set(output, gradientSlot(scope, name));
	for (const name of built.saved) if (!slots.has(name)) slots.set(name, innerSlot('saved', stage, name));

	const handed = new Set(split?.handed);
	const joins: Join[] = [];
	const receives: Operation['receives'][number][] = [];
	const outputs: ValueName[] = graph.outputs.filter((name) => kind !== 'I' || handed.has(name));
	for (const [id, name] of built.outputGrads) {
		const { terms, messages } = gradientTerms(site, id, name);
		if (isFirst) receives.push(...messages);
		for (const piece of terms.flat()) slots.set(piece.name, piece.slot);
		if (terms.length === 1 && terms[0]!.length === 1) continue;
		slots.set(name, innerSlot('gradSum', stage, name));
		const isReadLater = kind === 'I' && split!.weight.inputs.includes(name);
		if (!isFirst || !(graph.inputs.includes(name) || isReadLater)) continue;
		joins.push({ value: valueNamed(built.backward, name), terms });
		if (isReadLater) outputs.push(name);
	}
	const { slots: gradSlots, ...gone } = giveBack(site, built.inputGrads, handed);
	for (const [name, slot] of gradSlots) slots.set(name, slot);
	// Values of the forward that the first part computes again are handed on like any other.
	for (const name of handed) if (!gradSlots.has(name)) slots.set(name, innerSlot('handed', stage, name));
	const { kept, parts, sends } = kind === 'W' ? { kept: [], parts: [], sends: [] } : gone;
	const all = [...new Set([...kept, ...outputs.filter((name) => !gradSlots.has(name) || handed.has(name))])];
	const { id, graph: wired } = builds.variant(`stage${stage.number}.${graphNames[kind]}`, samples, graph, {
		joins,
		parts: parts.map(([part]) => part),
		outputs: all,
	});
	return {
		feeds: [],
		receives,
		graph: id,
		inputs: wired.inputs.map((name) => slots.get(name)!),
		outputs: [...all.map((name) => slots.get(name)!), ...parts.map(([, slot]) => slot)],
		fetches: [],
		sends,
	};
}

const graphNames = { B: 'backward', I: 'backwardInput', W: 'backwardWeight' } as const;

/** What makes up the gradient of a value that the stage handed on: a term per stage that gives one back, in the pieces in which it comes. */
function gradientTerms({ job, builds, routed, stage, where }: Site, id: string, name: ValueName) {
	const route = heldRoutes(routed, stage).find((r) => r.id === id && !r.maker.sweep)!;
	const givers = route.children.get(stage)!.filter((child) => builds.givesGradient(routed, child, route));
	const messages: Operation['receives'][number][] = [];
	const terms = givers.map((child) => {
		const own = { rows: samplesOf({ job, builds, routed, stage, where }), slot: gradientArrival(builds, routed, route, child) };
		const alone = givers.length === 1 ? name : (`${name}@${child.index}` as ValueName);
		if (child.rank === stage.rank) return [{ name: alone, ...own }];
		return arrivals(job, where, child.rank).map(({ device, rows, suffix }) => {
			const slot = gradientArrival(builds, routed, route, child, suffix);
			messages.push({ slot, from: device });
			return { name: `${alone}${suffix}` as ValueName, rows: rows[1] - rows[0], slot };
		});
	});
	return { terms, messages };
}

/** Where the gradients that the stage gives back go: to the slot of an earlier stage on the rank, or over to the devices of another. */
function giveBack(site: Site, grads: readonly (readonly [string, ValueName])[], handed: ReadonlySet<ValueName>) {
	const { job, builds, routed, stage, where } = site;
	const slots = new Map<ValueName, OpenSlot>();
	const kept: ValueName[] = [];
	const parts: (readonly [Part, OpenSlot])[] = [];
	const sends: Message[] = [];
	for (const [id, name] of grads) {
		const route = readRoute(routed, stage, id)!;
		const { rank } = route.parents.get(stage)!;
		const isHere = rank === where.rank;
		const slot = isHere ? gradientArrival(builds, routed, route, stage) : `grad:${route.key}#`;
		slots.set(name, slot);
		if (isHere) {
			kept.push(name);
			continue;
		}
		const away = departures(job, where, rank).map((transfer) => ({
			transfer,
			as: gradientArrival(builds, routed, route, stage, transfer.suffix),
		}));
		const out = outgoing(name, slot, handed.has(name), away);
		if (out.moved || handed.has(name)) kept.push(name);
		parts.push(...out.parts);
		sends.push(...out.sends);
	}
	return { slots, kept, parts, sends };
}
