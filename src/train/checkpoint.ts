/**
 * @file Checkpoints: a diffusers-style pipeline folder plus the training state, written whole or not at all.
 * `transformer/` (or `unet/`, `controlnet/`) holds the trained weights, `transformer_ema/` their moving average, `training/` the rest.
 */
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { DiffusionPipeError } from '../core/errors.ts';
import { cleanTemporary, writeFolderAtomic } from '../io/atomic.ts';
import { toFloat32 } from '../io/half.ts';
import { readJsonObject, writeJson } from '../io/json-file.ts';
import { type LoraSettings, loraFileName, writeLora } from '../io/lora-file.ts';
import { readModelFolder, writeModelFolder, writePipelineIndex } from '../io/model-folder.ts';
import { type NamedTensor, openSafetensors, type TensorReader, writeSafetensors } from '../io/safetensors.ts';
import { type SampleConfig, writeSampleConfig } from '../io/sample-config.ts';
import { type Checksums, checksumsOf, verifyChecksums } from './checksums.ts';
import type { LockedUNet } from './controlnet/types.ts';
import { copyPart, type FrozenText } from './frozen.ts';
import type { FrozenParts } from './frozen-parts.ts';
import type { BankRole, PlacedParameter } from './parameters.ts';
import { savedIndex } from './pipeline-index.ts';

/** What a run needs beside tensors to go on exactly. Random numbers are functions of seed and step, so the step is their state too. */
export interface TrainingState {
	readonly version: 1;
	/** Steps done. */
	readonly step: number;
	/** First layers of the stages after the first, so that the same layout resumes to the same bits. */
	readonly cuts: readonly number[];
	/** The resolved config of the run. */
	readonly config: Readonly<Record<string, unknown>>;
	/** Of the tensor files that the run wrote; older checkpoints have none. */
	readonly checksums?: Checksums;
}

/** What is saved: the model's identity and where its tensors are. */
export interface CheckpointContent {
	readonly state: TrainingState;
	/** Class name and config of the denoiser, and the scheduler's complete config. */
	readonly model: { readonly className: string; readonly config: Readonly<Record<string, unknown>> };
	readonly scheduler: Readonly<Record<string, unknown>>;
	/** Copied into the folder, so that it is complete. */
	readonly frozen: FrozenParts;
	/** The U-Net of a ControlNet, copied into the folder likewise. */
	readonly locked?: LockedUNet | undefined;
	/** What the run draws its samples with. */
	readonly sample: SampleConfig;
	/** Names of the classes by label. */
	readonly classes: readonly string[] | undefined;
	readonly parameters: readonly PlacedParameter[];
	/** Bank moments by their saved name, e.g. exp_avg: 0. */
	readonly moments: Readonly<Record<string, number>>;
	/** Moment that holds the moving average of the weights, if one is kept. */
	readonly average: number | undefined;
	/** Set when what is trained is a LoRA, beside the weights of the folder `base`. */
	readonly lora: (LoraSettings & { readonly base: string }) | undefined;
}

const optimizerFile = join('training', 'optimizer.safetensors');
const stateFile = join('training', 'state.json');

function tensors(parameters: readonly PlacedParameter[], role: BankRole, prefix = ''): NamedTensor[] {
	return parameters.map((p) => ({ name: `${prefix}${p.name}`, dtype: 'float32', shape: p.shape, data: () => p.views(role)[0]! }));
}

/** Name of a checkpoint's folder; names sort by step. */
export function checkpointName(step: number): string {
	return `step-${String(step).padStart(8, '0')}`;
}

/** Writes a checkpoint into `folder` (of the run's checkpoints) and returns its path. */
export async function writeCheckpoint(folder: string, content: CheckpointContent): Promise<string> {
	const path = join(folder, checkpointName(content.state.step));
	await writeFolderAtomic(
		path,
		async (dir) => {
			await writePipelineFolder(dir, content, 'parameter');
			if (content.average !== undefined && content.lora) {
				await mkdir(join(dir, averagedLora));
				await writeLoraOf(join(dir, averagedLora), content, { moment: content.average });
			} else if (content.average !== undefined) {
				await writeModelFolder(
					join(dir, `${partName(content.model.className)}_ema`),
					content.model.config,
					tensors(content.parameters, { moment: content.average }),
				);
			}
			await mkdir(join(dir, 'training'), { recursive: true });
			const trained = content.parameters.filter((p) => p.trained);
			const saved = Object.entries(content.moments).flatMap(([name, moment]) => tensors(trained, { moment }, `${name}.`));
			await writeSafetensors(join(dir, optimizerFile), saved);
			await writeJson(join(dir, stateFile), { ...content.state, checksums: await checksumsOf(dir, trainedFolders(content)) });
		},
		{ replace: true },
	);
	return path;
}

/** Folders of a checkpoint with tensors of its own. The other parts are links to files that the run was given, too large to be read at every checkpoint. */
function trainedFolders({ model, average, lora }: CheckpointContent): string[] {
	const part = partName(model.className);
	const [values, averaged] = lora ? ['', averagedLora] : [part, `${part}_ema`];
	return [values, ...(average === undefined ? [] : [averaged]), 'training'];
}

/** Writes model, scheduler and index of a pipeline into the existing folder `dir`, with the weights of one role. */
export async function writePipelineFolder(dir: string, content: CheckpointContent, role: BankRole): Promise<void> {
	await mkdir(join(dir, 'scheduler'), { recursive: true });
	const { model, scheduler, classes, frozen } = content;
	const part = partName(model.className);
	if (content.lora) {
		await copyPart(content.lora.base, join(dir, part));
		// Renamed into place, so that the base's own file, of which this is a link, stays as it is.
		await writeJson(join(dir, part, 'config.json'), model.config);
		await writeLoraOf(dir, content, role);
	} else await writeModelFolder(join(dir, part), model.config, tensors(content.parameters, role));
	await writeJson(join(dir, 'scheduler', 'scheduler_config.json'), scheduler);
	const { text } = frozen;
	const saved = savedIndex({
		part,
		model,
		unet: content.locked?.className,
		scheduler: String(scheduler._class_name),
		vae: frozen.vae !== undefined,
		text: text && { encoder: text.className, tokenizer: await tokenizerClass(text) },
		classes,
	});
	if (content.locked) await copyPart(content.locked.folder, join(dir, 'unet'));
	if (saved.vae) await copyPart(frozen.vae!.folder, join(dir, saved.vae));
	if (saved.text) {
		await copyPart(text!.folder, join(dir, saved.text.encoder));
		await copyPart(text!.tokenizerFolder, join(dir, saved.text.tokenizer));
	}
	await writePipelineIndex(dir, saved.index);
	await writeSampleConfig(dir, content.sample);
}

/** Class of a text encoder's tokenizer in transformers: as its folder says, or the one that goes with the encoder. */
async function tokenizerClass({ className, tokenizerFolder }: FrozenText): Promise<string> {
	const config = await readJsonObject(join(tokenizerFolder, 'tokenizer_config.json')).catch((): Record<string, unknown> => ({}));
	const { tokenizer_class: named } = config;
	if (typeof named === 'string') return named;
	return className.startsWith('T5') ? 'T5TokenizerFast' : 'CLIPTokenizer';
}

/** Folder of a checkpoint with the moving average of its LoRA. */
const averagedLora = 'lora_ema';

async function writeLoraOf(dir: string, { lora, model, parameters }: CheckpointContent, role: BankRole): Promise<void> {
	const trained = parameters.filter((p) => p.trained);
	await writeLora(dir, denoiserPart(model.className), lora!, tensors(trained, role));
}

/** Folder of a trained model in a pipeline. */
export function partName(className: string): 'unet' | 'transformer' | 'controlnet' {
	return className === 'ControlNetModel' ? 'controlnet' : denoiserPart(className);
}

function denoiserPart(className: string): 'unet' | 'transformer' {
	return className.startsWith('UNet') ? 'unet' : 'transformer';
}

/** Steps with a whole checkpoint in `folder`, oldest first. */
export async function listCheckpoints(folder: string): Promise<{ step: number; path: string }[]> {
	const names = await readdir(folder).catch(() => [] as string[]);
	return names
		.flatMap((name) => {
			const match = /^step-(\d+)$/.exec(name);
			return match ? [{ step: Number(match[1]), path: join(folder, name) }] : [];
		})
		.sort((a, b) => a.step - b.step);
}

/**
 * Removes all but the newest `keep` checkpoints (0: keeps all) up to `step`, which was just written. Later ones are of a run that went on from here before, which
 * the run has left: what is resumed by default is the newest.
 */
export async function pruneCheckpoints(folder: string, keep: number, step: number): Promise<void> {
	const all = await listCheckpoints(folder);
	const ours = all.filter((each) => each.step <= step);
	const old = keep > 0 ? ours.slice(0, Math.max(0, ours.length - keep)) : [];
	for (const { path } of [...all.filter((each) => each.step > step), ...old]) await rm(path, { recursive: true, force: true });
}

/** Makes a folder that a killed process left behind whole again. */
export async function repairCheckpoints(folder: string): Promise<void> {
	await cleanTemporary(folder).catch(() => []);
}

/** Reads a checkpoint's state. Throws an input error when the folder is not a checkpoint. */
export async function readTrainingState(path: string): Promise<TrainingState> {
	const state = await readJsonObject(join(path, stateFile));
	const { version, step, cuts, config, checksums = {} } = state;
	const counts = [step, ...(Array.isArray(cuts) ? cuts : [undefined])].every((n) => Number.isSafeInteger(n) && (n as number) >= 0);
	const summed = typeof checksums === 'object' && checksums !== null && Object.values(checksums).every((sum) => typeof sum === 'string');
	if (version !== 1 || !counts || !summed || typeof config !== 'object' || config === null) {
		throw new DiffusionPipeError('input', 'is not a training state we know', {
			place: join(path, stateFile),
			expected: 'version 1 with step, cuts, config and, unless it is older, checksums',
			found: `version ${JSON.stringify(version)}, step ${JSON.stringify(step)}, cuts ${JSON.stringify(cuts)}`,
		});
	}
	return state as unknown as TrainingState;
}

/** Like `readTrainingState`, of a checkpoint whose tensors are as they were written. Throws an input error naming the file that is not. */
export async function readVerifiedState(path: string): Promise<TrainingState> {
	const state = await readTrainingState(path);
	await verifyChecksums(path, state.checksums ?? {});
	return state;
}

/** `error`, or where it is about the files of a checkpoint one that names the checkpoint `before`, which can be gone on from. */
export function namingEarlier(error: unknown, before: string | undefined): unknown {
	if (!(error instanceof DiffusionPipeError && error.kind === 'input') || before === undefined) return error;
	return new DiffusionPipeError(error.kind, error.what, { ...error.parts, hint: `the checkpoint before: --resume ${before}` });
}

/**
 * Reads a checkpoint's tensors into the banks of every replica. Throws an input error naming the file and tensor when one is missing or has
 * another shape; the banks are then not to be used.
 */
export async function readCheckpointTensors(
	path: string,
	part: string,
	parameters: readonly PlacedParameter[],
	moments: Readonly<Record<string, number>>,
	average: number | undefined,
	lora: boolean,
): Promise<void> {
	const fill = async (reader: TensorReader, role: BankRole, prefix = '', chosen = parameters) => {
		for (const p of chosen) {
			const values = await readParameter(reader, `${prefix}${p.name}`, p.shape, path);
			for (const view of p.views(role)) view.set(values);
		}
	};
	const trained = parameters.filter((p) => p.trained);
	const withFile = async (file: string, use: (reader: TensorReader) => Promise<void>) => {
		const reader = await openSafetensors(file);
		try {
			await use(reader);
		} finally {
			await reader.close();
		}
	};
	const withModel = async (name: string, role: BankRole, chosen = parameters) => {
		const { weights } = await readModelFolder(join(path, name));
		try {
			await fill(weights, role, '', chosen);
		} finally {
			await weights.close();
		}
	};
	if (lora) {
		const untrained = parameters.filter((p) => !p.trained);
		await withModel(part, 'parameter', untrained);
		const read = (folder: string, role: BankRole) =>
			withFile(join(folder, loraFileName), (reader) => fill(reader, role, `${part}.`, trained));
		await read(path, 'parameter');
		if (average !== undefined) await read(join(path, averagedLora), { moment: average });
	} else {
		await withModel(part, 'parameter');
		if (average !== undefined) await withModel(`${part}_ema`, { moment: average });
	}
	await withFile(join(path, optimizerFile), async (reader) => {
		for (const [name, moment] of Object.entries(moments)) await fill(reader, { moment }, `${name}.`, trained);
	});
}

/** One tensor as float32, checked against the shape the model wants. */
export async function readParameter(reader: TensorReader, name: string, shape: readonly number[], place: string): Promise<Float32Array> {
	const tensor = await reader.read(name);
	if (tensor.shape.join() !== shape.join()) {
		throw new DiffusionPipeError('input', 'a parameter has another shape than the model', {
			place: `${place}: ${name}`,
			expected: `[${shape.join(', ')}]`,
			found: `[${tensor.shape.join(', ')}]`,
		});
	}
	return toFloat32(tensor).data;
}
