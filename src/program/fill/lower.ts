/**
 * @file Filled programs: frozen parts of the next iteration run inside the bubbles of this one. The prologue runs them for the first iteration, the epilogue
 * is an iteration without them. The frozen outputs of an iteration lie in the very slots that its training would have been fed, so that the training
 * instructions stay as they were, and results with them.
 */
import { DiffusionPipeError } from '../../core/errors.ts';
import type { FillItem } from '../../plan/fill/types.ts';
import { type BankLayout, layoutBank } from '../layout.ts';
import { type Compiled, signatureOf } from '../lower.ts';
import { bankId, type DeviceProgram, type Instruction, type Program, type Resident, type SourceType } from '../types.ts';
import { type Delivery, emitFrozen, frozenParameterSlot } from './emit.ts';
import { framesOf } from './frames.ts';
import { type FrozenPart, type Given, sourceOf } from './types.ts';
import { weave } from './weave.ts';

export interface FillLayout {
	readonly parts: readonly FrozenPart[];
	readonly given: Given;
	/** Over all devices and the whole batch, as in the plan. */
	readonly items: readonly FillItem[];
	/** Planned start of each action that a device runs, in its order, ms: `plannedStarts`. */
	readonly starts: (device: number) => readonly number[];
}

export interface FilledProgram extends Compiled {
	/** Where the weights of frozen parts lie: every bank here holds those of one part's layers that run on one device. */
	readonly frozenBanks: readonly { readonly device: number; readonly part: string; readonly layout: BankLayout }[];
	/** Host sources of the frozen parts: fed to the prologue for the first iteration, and to every iteration for the next. */
	readonly frozenSources: readonly string[];
}

/**
 * `training` with the frozen work of `layout` in it. Throws a program error when a given input is not fed by the training program, or what `emitFrozen`
 * throws.
 */
export function lowerFilled(training: Compiled, layout: FillLayout): FilledProgram {
	const { program } = training;
	const { parts, given, items, starts } = layout;
	for (const name of Object.keys(given)) {
		if (program.sources[name]) continue;
		throw new DiffusionPipeError('program', 'nothing feeds the input that a frozen part gives', {
			place: `${program.name}, input ${name}`,
			expected: Object.keys(program.sources).join(', '),
		});
	}
	const deliveries = program.devices.flatMap(({ device, iteration }) => deliveriesOf(device, iteration, given));
	const code = emitFrozen(parts, framesOf(items), deliveries);
	const frozenBanks = [...code.parameters].flatMap(([device, byPart]) =>
		[...byPart].flatMap(([part, parameters]) =>
			parameters.size === 0 ? [] : [{ device, part, layout: layoutBank(`frozen.${part}`, [...parameters.values()]) }],
		),
	);
	const devices = program.devices.map((own): DeviceProgram => {
		const frozen = code.blocks.get(own.device) ?? [];
		const withoutFeeds = own.iteration.filter((i) => !(i.op === 'feed' && Object.hasOwn(given, i.source)));
		const banks = frozenBanks.filter(({ device }) => device === own.device);
		return {
			...own,
			banks: [...own.banks, ...banks.map(({ layout: { bank, size } }) => ({ id: bank, size, moments: 0 }))],
			residents: [...own.residents, ...banks.flatMap(({ part, layout: bank }) => residentsOf(part, bank))],
			prologue: [...own.prologue, ...frozen.flatMap((block) => block.instructions)],
			iteration: weave(withoutFeeds, starts(own.device), frozen),
			epilogue: [...withoutFeeds, ...own.epilogue],
		};
	});
	const batch = Object.values(program.sources).find(({ perSample }) => perSample)!.shape[0]!;
	const sources: Record<string, SourceType> = { ...program.sources };
	for (const name of Object.keys(given)) delete sources[name];
	const frozenSources: string[] = [];
	for (const { name: part, trace, takes } of parts) {
		for (const [input, { dtype, shape }] of Object.entries(trace.chain.inputs)) {
			if (takes[input]) continue;
			const source = sourceOf(part, input);
			sources[source] = { dtype, shape: [batch, ...shape], perSample: true };
			frozenSources.push(source);
		}
	}
	const graphs = new Map([...training.graphs, ...code.graphs]);
	const filled: Program = {
		...program,
		name: `${program.name}, filled`,
		devices,
		graphs: Object.fromEntries([...graphs].map(([id, graph]) => [id, signatureOf(graph)])),
		sources,
	};
	return { ...training, program: filled, graphs, frozenBanks, frozenSources };
}

/** Where training would have fed what frozen parts give. */
function deliveriesOf(device: number, iteration: readonly Instruction[], given: Given): Delivery[] {
	return iteration.flatMap((i) => {
		if (i.op !== 'feed' || !Object.hasOwn(given, i.source)) return [];
		return [{ device, slot: i.slot, value: given[i.source]!, from: i.from, to: i.to }];
	});
}

function residentsOf(part: string, { bank, parameters }: BankLayout): Resident[] {
	return parameters.map(({ name, shape, offset }) => ({
		slot: frozenParameterSlot(part, name),
		dtype: 'float32',
		shape,
		bank: bankId(bank),
		role: 'parameter',
		parameter: `${part}/${name}`,
		offset,
	}));
}
