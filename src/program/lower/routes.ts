/** @file How live values get from the stage that makes them to those that read them: from reader to reader, and not at all within a rank. */
import type { Job, Stage } from './job.ts';

/**
 * The way of one live value. Each stage that reads it has it from its parent: the last earlier holder on the same rank where there is one (the slot is
 * shared), otherwise the last earlier holder (it is sent). Stages between that do not read it never see it; gradients go the same way back.
 */
export interface Route {
	/** Its name in slots. */
	readonly key: string;
	/** Id in the maker's chain. */
	readonly id: string;
	readonly maker: Stage;
	/** Names under which the last holder of all, the maker, gives it to the host. */
	readonly outputs: readonly string[];
	/** The maker is a sweep's stage, and readers take it as this chain input. */
	readonly fedBackAs?: string;
	readonly parents: ReadonlyMap<Stage, Stage>;
	readonly children: ReadonlyMap<Stage, readonly Stage[]>;
}

/** The routes of all values that leave a layer's stage or are outputs of a trained chain. */
export function routesOf(job: Job, stages: readonly Stage[]): readonly Route[] {
	return job.backbones.flatMap((_, backbone) => {
		const chain = (sweep: boolean) =>
			stages.filter((s) => s.backbone === backbone && s.sweep === sweep).sort((a, b) => a.number - b.number);
		const [trained, swept] = [chain(false), chain(true)];
		return [...routesAlong(job, trained), ...routesAlong(job, swept, trained)];
	});
}

/** Routes of the values made by `stages`, one after another along a chain. What a sweep gives back goes to `fed`. */
function routesAlong(job: Job, stages: readonly Stage[], fed: readonly Stage[] = []): Route[] {
	if (stages.length === 0) return [];
	const { backbone, sweep } = stages[0]!;
	const trace = job.trace(stages[0]!);
	const scope = `${job.scopes[backbone]!}${sweep ? 'sweep:' : ''}`;
	const reads = (stage: Stage, id: string) => trace.layers.slice(...stage.layers).some((layer) => layer.reads.includes(id));
	// A stage that makes nothing for a loss, or for a stage that does, is left out.
	const useful = new Set<Stage>();
	for (const stage of [...stages].reverse()) {
		const makes = trace.layers.slice(...stage.layers).flatMap((layer) => layer.writes);
		if (makes.some((id) => trace.outputs.includes(id) || [...useful].some((other) => reads(other, id)))) useful.add(stage);
	}
	return [...trace.definitions.values()].flatMap(({ id, layer }): Route[] => {
		const at = stages.findIndex(({ layers: [from, to] }) => from <= layer && layer < to);
		const maker = stages[at];
		if (!maker) return [];
		const isOutput = trace.outputs.includes(id);
		const readers = stages.slice(at + 1).filter((stage) => useful.has(stage) && reads(stage, id));
		const input = sweep && isOutput ? job.backbones[backbone]!.selfConditioning!.input : undefined;
		if (input !== undefined) {
			const full = job.backbones[backbone]!.trace;
			readers.push(...fed.filter((s) => full.layers.slice(...s.layers).some((l) => l.reads.includes(`${input}@in`))));
		}
		const outputs = isOutput && !sweep ? trace.outputs.flatMap((o, i) => (o === id ? [trace.chain.outputs[i]!] : [])) : [];
		if (readers.length === 0 && outputs.length === 0) return [];
		return [{ key: `${scope}${id}`, id, maker, outputs, ...(input === undefined ? {} : { fedBackAs: input }), ...treeOf(maker, readers) }];
	});
}

function treeOf(maker: Stage, readers: readonly Stage[]): Pick<Route, 'parents' | 'children'> {
	const holders = [maker];
	const parents = new Map<Stage, Stage>();
	const children = new Map<Stage, Stage[]>();
	for (const reader of readers) {
		const parent = holders.findLast(({ rank }) => rank === reader.rank) ?? holders.at(-1)!;
		parents.set(reader, parent);
		children.set(parent, [...(children.get(parent) ?? []), reader]);
		holders.push(reader);
	}
	return { parents, children };
}
