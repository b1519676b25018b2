import { expect, test } from 'vitest';
import { emojiCounts, openEmoji } from '../../../src/train/data/emoji.ts';
import { listEmoji } from '../../../src/train/data/emoji-list.ts';
import type { DataSet } from '../../../src/train/data/types.ts';

async function find(set: DataSet, name: string): Promise<Awaited<ReturnType<DataSet['load']>> | undefined> {
	for (let i = 0; i < set.size; i++) {
		const example = await set.load(i);
		if (example.name === name) return example;
	}
	return undefined;
}

test('counts of the packages: styles, flags, skins, categories', async () => {
	const twitter = await emojiCounts({ type: 'emoji' });
	expect(twitter).toMatchObject({ images: 1911 - 270 - 5, base: 1911 - 270 - 5, missing: [] });
	expect(twitter.categories).toMatchObject({ 'Food & Drink': 131, 'Animals & Nature': 159 });
	expect(twitter.train + twitter.heldOut).toBe(twitter.images);
	expect(Object.keys(twitter.categories)).not.toContain('Flags');
	expect((await emojiCounts({ type: 'emoji', flags: true })).images).toBe(1911 - 5);
	expect((await emojiCounts({ type: 'emoji', skins: true })).images).toBe(1911 - 270 - 5 + 1875);
	const fluent = await emojiCounts({ type: 'emoji', style: 'fluent', flags: true, categories: undefined });
	expect(fluent.images + fluent.missing.length).toBe(1911 - 5);
	expect(fluent.images).toBe(1852);
	expect(fluent.missing).toContain('phoenix, 3d');
	const both = await emojiCounts({ type: 'emoji', style: 'both', categories: ['Food & Drink'] });
	expect(both.base).toBe(131);
	expect(both.images).toBe(262 - both.missing.length);
});

test('one in ten is held out, by emoji: the same in every style and skin tone', async () => {
	const counts = await emojiCounts({ type: 'emoji' });
	expect(counts.heldOut / counts.images).toBeGreaterThan(0.07);
	expect(counts.heldOut / counts.images).toBeLessThan(0.13);
	const base = async (style: 'twitter' | 'fluent', split: 'train' | 'held-out'): Promise<Set<string>> => {
		const set = await openEmoji({ type: 'emoji', style, split, size: 1, categories: ['Food & Drink'], skins: true });
		return new Set(await Promise.all(Array.from({ length: set.size }, async (_, i) => (await set.load(i)).caption.replace(', 3d', ''))));
	};
	const heldOut = new Set([...(await base('twitter', 'held-out')), ...(await base('fluent', 'held-out'))]);
	const train = new Set([...(await base('twitter', 'train')), ...(await base('fluent', 'train'))]);
	expect(heldOut.size).toBeGreaterThan(0);
	expect([...heldOut].filter((caption) => train.has(caption))).toEqual([]);
});

test('a lemon is yellow on white, in both styles, and says so', async () => {
	const set = await openEmoji({ type: 'emoji', style: 'both', split: 'all', size: 16, categories: ['Food & Drink', 'Activities'] });
	expect(set).toMatchObject({ channels: 3, height: 16, width: 16, classes: ['Activities', 'Food & Drink'] });
	expect(set.licence).toMatch(/Twemoji.*CC BY 4\.0.*\n.*Fluent Emoji.*Microsoft.*MIT/);
	for (const [style, caption] of [
		['twitter', 'lemon'],
		['fluent', 'lemon, 3d'],
	] as const) {
		const lemon = await find(set, `${style}/1f34b`);
		expect(lemon).toMatchObject({ caption, label: 1 });
		const at = (channel: number, y: number, x: number): number => lemon!.image[(channel * 16 + y) * 16 + x]!;
		for (let channel = 0; channel < 3; channel++) expect(at(channel, 15, 0)).toBeGreaterThan(0.98);
		expect(at(0, 8, 8)).toBeGreaterThan(0.6);
		expect(at(2, 8, 8)).toBeLessThan(0.1);
	}
});

test('a third style for evaluation: other pictures of the same emoji, under the same captions and split', async () => {
	const google = await emojiCounts({ type: 'emoji', style: 'google' });
	expect(google).toMatchObject({ images: 1911 - 270 - 5, missing: [] });
	const set = await openEmoji({ type: 'emoji', style: 'google', split: 'all', size: 16, categories: ['Food & Drink'] });
	expect(set.licence).toMatch(/Noto Emoji.*Google.*Apache/);
	const lemon = (await find(set, 'google/1f34b'))!;
	expect(lemon.caption).toBe('lemon');
	const flat = (await find(await openEmoji({ type: 'emoji', split: 'all', size: 16, categories: ['Food & Drink'] }), 'twitter/1f34b'))!;
	expect(lemon.image).not.toEqual(flat.image);
	const held = async (style: 'google' | 'twitter') =>
		(await listEmoji({ styles: [style], categories: undefined, flags: false, skins: false })).emoji
			.filter((e) => e.heldOut)
			.map((e) => e.base);
	expect(await held('google')).toEqual(await held('twitter'));
});

test('skin tones are named, and part of the caption', async () => {
	const { emoji } = await listEmoji({ styles: ['twitter'], categories: ['People & Body'], flags: false, skins: true });
	const waving = emoji.filter(({ title }) => title === 'waving hand sign').map(({ skin }) => skin);
	const tone = ['', 'light', 'medium-light', 'medium', 'medium-dark', 'dark'].map((name) => (name === '' ? '' : `${name} skin tone`));
	expect(waving).toEqual(tone);
	expect(emoji.some(({ skin }) => skin === 'light and dark skin tone')).toBe(true);
	const { missing } = await emojiCounts({ type: 'emoji', style: 'fluent', skins: true });
	expect(missing).toContain('person kneeling facing right, medium-dark skin tone, 3d');
});

test('unknown categories and options come with the nearest name', async () => {
	await expect(openEmoji({ type: 'emoji', categories: ['Food and Drink'] })).rejects.toThrow(
		/data\.categories.*\n.*\n.*\n {2}try: Food & Drink/,
	);
	await expect(openEmoji({ type: 'emoji', flag: true } as never)).rejects.toThrow(/data\.flag: no such option\n.*\n.*\n {2}try: flags/);
});
