/** @file Fetching models, from a hub on this machine that speaks the few endpoints it takes. */
import { lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DiffusionPipeError } from '../../src/core/errors.ts';
import { type HubEvent, type ResolveOptions, resolveModel } from '../../src/io/hub.ts';
import { chooseFiles } from '../../src/io/hub-files.ts';
import { readModelFolder, writeModelFolder } from '../../src/io/model-folder.ts';
import { openTokenizer } from '../../src/io/tokenizer.ts';
import { type FakeHub, type FakeRepo, startHub } from './hub-server.ts';

const id = 'someone/tiny-pipeline';
const commit = 'c0ffee'.padEnd(40, '0');
let dir = '';
let hub: FakeHub | undefined;
const cacheDir = () => join(dir, 'cache');

beforeEach(() => {
	dir = mkdtempSync(join(tmpdir(), 'hub-'));
});
afterEach(async () => {
	await hub?.close();
	hub = undefined;
	rmSync(dir, { recursive: true, force: true });
});

const text = (s: string) => new TextEncoder().encode(s);
/** Bytes without a pattern that a wrong offset could hide in. */
const noise = (size: number, seed: number) => Uint8Array.from({ length: size }, (_, i) => Math.imul(i + seed, 2654435761) >>> 24);

const files = new Map<string, Uint8Array>([
	['README.md', text('# tiny')],
	[
		'model_index.json',
		text('{"_class_name":"TinyPipeline","unet":["diffusers","UNet2DModel"],"tokenizer":["transformers","CLIPTokenizer"]}'),
	],
	['tiny-pruned.safetensors', noise(5000, 1)],
	['tokenizer/merges.txt', text('#version: 0.2\n')],
	['tokenizer/vocab.json', text('{"a</w>":0,"<|startoftext|>":1,"<|endoftext|>":2}')],
	['unet/config.json', text('{"_class_name":"UNet2DModel"}')],
	['unet/diffusion_pytorch_model.bin', noise(3000, 2)],
	['unet/diffusion_pytorch_model.fp16.safetensors', noise(40_000, 3)],
	['unet/diffusion_pytorch_model.safetensors', noise(200_000, 4)],
	['unet/empty.txt', new Uint8Array(0)],
	['safety_checker/config.json', text('{}')],
	['safety_checker/model.safetensors', noise(3000, 5)],
]);
const weights = 'unet/diffusion_pytorch_model.safetensors';
const fetched = ['model_index.json', 'tokenizer/merges.txt', 'tokenizer/vocab.json', 'unet/config.json', weights, 'unet/empty.txt'];

const start = async (repo: Partial<FakeRepo> = {}): Promise<FakeHub> => {
	hub = await startHub({ id, commit, files, ...repo });
	return hub;
};
const resolve = (options: ResolveOptions = {}) =>
	resolveModel(id, { cacheDir: cacheDir(), ...(hub ? { endpoint: hub.url } : {}), ...options });
const contentOf = (folder: string) =>
	readdirSync(folder, { recursive: true, encoding: 'utf8' })
		.filter((path) => statSync(join(folder, path)).isFile())
		.map((path) => path.replaceAll('\\', '/'))
		.sort();
const errorOf = async (work: Promise<unknown>, kind: string): Promise<string> => {
	const error = await work.catch((e: unknown) => e);
	expect(error).toBeInstanceOf(DiffusionPipeError);
	expect((error as DiffusionPipeError).kind, (error as Error).message).toBe(kind);
	return (error as DiffusionPipeError).message;
};

describe('a path', () => {
	it('of a folder is that folder', async () => {
		const folder = join(dir, 'owner', 'model');
		mkdirSync(folder, { recursive: true });
		expect(await resolveModel(folder)).toBe(folder);
	});

	it('that is no folder and no name of a model is refused without asking anyone', async () => {
		const fetch = () => Promise.reject(new Error('asked'));
		for (const path of ['./none', '/none/at/all', 'just-a-name', 'a/../b', '../no-such-folder', 'a/b/c']) {
			expect(await errorOf(resolveModel(path, { fetch }), 'input')).toMatch(/there is no such folder/);
		}
		writeFileSync(join(dir, 'model.safetensors'), '');
		expect(await errorOf(resolveModel(join(dir, 'model.safetensors')), 'input')).toMatch(/is a file/);
	});
});

describe('a model of the hub', () => {
	it('is fetched: what is read of it and no more, in the layout of the Python tools', async () => {
		await start();
		const folder = await resolve();
		expect(folder).toBe(join(cacheDir(), 'models--someone--tiny-pipeline', 'snapshots', commit));
		expect(contentOf(folder)).toEqual([...fetched].sort());
		for (const path of fetched) expect(new Uint8Array(readFileSync(join(folder, path)))).toEqual(files.get(path));
		expect(lstatSync(join(folder, weights)).isSymbolicLink()).toBe(true);
		expect(readlinkSync(join(folder, weights))).toMatch(/^\.\.\/\.\.\/\.\.\/blobs\/[0-9a-f]{64}$/);
		expect(readlinkSync(join(folder, 'unet/config.json'))).toMatch(/^\.\.\/\.\.\/\.\.\/blobs\/[0-9a-f]{40}$/);
		expect(readFileSync(join(folder, '../../refs/main'), 'utf8')).toBe(commit);
		expect(contentOf(join(folder, '../../blobs')).filter((name) => !/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(name))).toEqual([]);
		expect((await openTokenizer(join(folder, 'tokenizer'))).vocabularySize).toBe(3);
	});

	it('opens through the links', async () => {
		const source = join(dir, 'source');
		await writeModelFolder(source, { _class_name: 'X' }, [{ name: 'w', dtype: 'float32', shape: [2], data: Float32Array.of(1, 2) }]);
		await start({ files: new Map(readdirSync(source).map((name) => [name, new Uint8Array(readFileSync(join(source, name)))])) });
		const model = await readModelFolder(await resolve());
		expect((await model.weights.read('w')).data).toEqual(Float32Array.of(1, 2));
		await model.weights.close();
	});

	it('is fetched once, and told about', async () => {
		const server = await start();
		const events: HubEvent[] = [];
		await resolve({ onEvent: (e) => events.push(e) });
		const total = fetched.reduce((sum, path) => sum + files.get(path)!.length, 0);
		expect(events[0]).toEqual({ kind: 'plan', files: 6, bytes: total, cachedBytes: 0 });
		const progress = events.flatMap((e) => (e.kind === 'progress' ? [e] : []));
		expect(progress.at(-1)).toEqual({ kind: 'progress', file: weights, fileBytes: 200_000, fileSize: 200_000, bytes: total, total });
		expect(progress.map((e) => e.bytes)).toEqual(progress.map((e) => e.bytes).sort((a, b) => a - b));
		const asked = server.requests.length;
		events.length = 0;
		expect(await resolve({ onEvent: (e) => events.push(e) })).toMatch(commit);
		expect(events).toEqual([{ kind: 'plan', files: 6, bytes: total, cachedBytes: total }]);
		expect(server.requests).toHaveLength(asked);
	});

	it('can be asked for by commit and by variant', async () => {
		await start();
		const folder = await resolve({ revision: commit, variant: 'fp16' });
		expect(contentOf(folder).filter((p) => p.endsWith('.safetensors'))).toEqual(['unet/diffusion_pytorch_model.fp16.safetensors']);
		expect(readdirSync(join(folder, '../..')).sort()).toEqual(['blobs', 'snapshots']);
	});

	it('is fetched with an access token where it needs one', async () => {
		await start({ token: 'hf_secret' });
		const message = await errorOf(resolve(), 'input');
		expect(message).toMatch(/refuses access[\s\S]*401[\s\S]*accept its terms at http[\s\S]*HF_TOKEN/);
		expect(await errorOf(resolve({ token: 'hf_other' }), 'input')).toMatch(/token's account/);
		expect(await errorOf(resolve({ token: 'secret' }), 'usage')).toMatch(/starts with hf_/);
		expect(contentOf(await resolve({ token: 'hf_secret' }))).toHaveLength(6);
	});

	it('that is not there, or has no such revision, is named', async () => {
		await start();
		expect(await errorOf(resolveModel('someone/else', { endpoint: hub!.url, cacheDir: cacheDir() }), 'input')).toMatch(
			/someone\/else: is neither a folder here nor a model at[\s\S]*404: Repository not found/,
		);
		expect(await errorOf(resolve({ revision: 'v9' }), 'input')).toMatch(/revision v9[\s\S]*Invalid rev id/);
		expect(await errorOf(resolve({ revision: '../x' }), 'usage')).toMatch(/revision is malformed/);
	});
});

describe('a download', () => {
	it('that breaks off is continued from there', async () => {
		const server = await start();
		server.breakOff(weights, 70_000, 1);
		const folder = await resolve();
		expect(new Uint8Array(readFileSync(join(folder, weights)))).toEqual(files.get(weights));
		expect(server.requests.filter((r) => r.startsWith(weights))).toEqual([`${weights} 0`, `${weights} 70000`]);
	});

	it('that cannot go on keeps what it has for the next run', async () => {
		const server = await start();
		server.breakOff(weights, 70_000, 3);
		expect(await errorOf(resolve(), 'engine')).toMatch(/unet\/diffusion.*: the download broke off[\s\S]*70000 of 200000 bytes are kept/);
		const repo = join(cacheDir(), 'models--someone--tiny-pipeline');
		expect(contentOf(join(repo, 'snapshots', commit))).not.toContain(weights);
		expect(() => statSync(join(repo, 'refs'))).toThrow();
		server.requests.length = 0;
		const folder = await resolve();
		expect(server.requests).toEqual([`${weights} 70000`]);
		expect(new Uint8Array(readFileSync(join(folder, weights)))).toEqual(files.get(weights));
	});

	it('is tried again when the hub is busy, not when it refuses', async () => {
		const server = await start();
		server.refuse('unet/config.json', 503, 1);
		server.refuse('tokenizer/vocab.json', 403, 1);
		expect(await errorOf(resolve(), 'input')).toMatch(/tokenizer\/vocab\.json: http.* refuses access/);
		expect(contentOf(await resolve())).toHaveLength(6);
	});

	it('whose bytes are not those of the listing is deleted', async () => {
		(await start()).damage(weights);
		expect(await errorOf(resolve(), 'input')).toMatch(/damaged and was deleted[\s\S]*SHA-256/);
		const repo = join(cacheDir(), 'models--someone--tiny-pipeline');
		expect(readdirSync(join(repo, 'blobs')).filter((name) => name.endsWith('.incomplete'))).toEqual([]);
		expect(contentOf(join(repo, 'snapshots', commit))).not.toContain(weights);
	});

	it('can be stopped', async () => {
		await start();
		const stop = new AbortController();
		const onEvent = (e: HubEvent) => {
			if (e.kind === 'progress' && e.file === weights && e.fileBytes > 0) stop.abort();
		};
		expect(await errorOf(resolve({ signal: stop.signal, onEvent }), 'engine')).toMatch(/the download was stopped/);
		expect(contentOf(await resolve())).toHaveLength(6);
	});

	it('of a path that leads out of the folder is refused', async () => {
		const server = await start();
		server.invent('unet/../../../escape.json');
		expect(await errorOf(resolve(), 'input')).toMatch(/cannot be stored/);
	});
});

describe('without network', () => {
	/** A port that was free a moment ago. */
	const refused = async () => {
		const server = await startHub({ id, commit, files });
		await server.close();
		return server.url;
	};

	it('says what failed, that a folder does, and where the cache is', async () => {
		const endpoint = await refused();
		const message = await errorOf(resolve({ endpoint }), 'engine');
		expect(message).toContain(`${endpoint} cannot be reached`);
		expect(message).toMatch(/ECONNREFUSED/);
		expect(message).toMatch(/path of a model folder on this machine/);
		expect(message).toContain(cacheDir());
	});

	it('takes the copy fetched last', async () => {
		await start();
		const folder = await resolve();
		const endpoint = await refused();
		const notes: string[] = [];
		expect(await resolve({ endpoint, onEvent: (e) => e.kind === 'note' && notes.push(e.text) })).toBe(folder);
		expect(notes).toEqual([expect.stringMatching(/cannot be reached: using the copy/)]);
		expect(await resolve({ endpoint, revision: commit })).toBe(folder);
		expect(await errorOf(resolve({ endpoint, revision: 'other' }), 'engine')).toMatch(/cannot be reached/);
	});
});

describe('the choice of files', () => {
	const choose = (paths: string[], choice = {}) => chooseFiles(paths, choice, 'repo');

	it('takes shards with their index, of the variant asked for', () => {
		const shards = [
			'transformer/diffusion_pytorch_model-00001-of-00002.safetensors',
			'transformer/diffusion_pytorch_model-00002-of-00002.safetensors',
		];
		const half = shards.map((s) => s.replace('model-', 'model.fp16-'));
		const indexes = [
			'transformer/diffusion_pytorch_model.safetensors.index.json',
			'transformer/diffusion_pytorch_model.fp16.safetensors.index.json',
		];
		const all = ['model_index.json', 'transformer/config.json', 'flux1-dev.safetensors', ...shards, ...half, ...indexes];
		expect(choose(all)).toEqual(['model_index.json', 'transformer/config.json', ...shards, indexes[0]]);
		expect(choose(all, { variant: 'fp16' })).toEqual(['model_index.json', 'transformer/config.json', ...half, indexes[1]]);
	});

	it('falls back to plain weights for parts without the variant', () => {
		const paths = ['model_index.json', 'text_encoder/config.json', 'text_encoder/model.safetensors', 'vae/config.json'];
		const vae = ['vae/diffusion_pytorch_model.fp16.safetensors', 'vae/diffusion_pytorch_model.safetensors'];
		expect(choose([...paths, ...vae], { variant: 'fp16' })).toEqual([...paths, vae[0]]);
	});

	it('takes the top folder of a repository of one model', () => {
		const paths = ['config.json', 'diffusion_pytorch_model.safetensors', 'onnx/config.json', 'other.safetensors', 'README.md'];
		expect(choose(paths)).toEqual(paths.slice(0, 2));
	});

	it('takes what patterns say', () => {
		const paths = ['a/config.json', 'a/b/model.bin', 'c.txt'];
		expect(choose(paths, { allowPatterns: ['a/*'] })).toEqual(paths.slice(0, 2));
		expect(choose(paths, { allowPatterns: ['*.json', '?.txt'] })).toEqual(['a/config.json', 'c.txt']);
		expect(choose(paths, { allowPatterns: ['*'], ignorePatterns: ['*.bin'] })).toEqual(['a/config.json', 'c.txt']);
		expect(() => choose(paths, { allowPatterns: ['*.safetensors'] })).toThrow(/no files that are wanted[\s\S]*\*\.safetensors/);
	});

	it('refuses parts whose weights cannot be read, before anything is fetched', () => {
		const part = ['model_index.json', 'unet/config.json'];
		expect(() => choose([...part, 'unet/diffusion_pytorch_model.bin'])).toThrow(
			/repo, unet: has no weights that can be read[\s\S]*\.bin[\s\S]*safetensors/,
		);
		expect(() => choose([...part, 'unet/diffusion_pytorch_model.fp16.safetensors'])).toThrow(/ask for one of these variants/);
		expect(() => choose(['README.md'])).toThrow(/no files that are wanted/);
		expect(() => choose([])).toThrow(/no files/);
	});
});
