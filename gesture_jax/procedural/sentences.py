"""Sentences for the procedural speaker: everyday phrases of several languages, joined at random."""

from collections.abc import Sequence

import numpy as np

# Openings, subjects with verbs, objects, and endings; any of each makes a sentence.
_PHRASES: dict[str, tuple[str, str, str, str]] = {
    "en": (
        "well|of course|believe me|to be honest|as you know|every morning|maybe|in my family|"
        "by the way|remember that|first of all|before we begin|people say that|above all|look",
        "we move|my mother bought|they painted|nobody remembers|I would prefer|you must bring|"
        "some people build|our friends have found|I have always loved|she began to measure|"
        "the baby wants|both of us imagine|he put away|we believe in|Bob will probably keep",
        "a big brown box|the map of the mountain|five or six apples|this beautiful problem|"
        "a very warm summer|more than enough paper|the most important number|every empty room|"
        "a boat with a blue flag|their new piano|the bread and the butter|a cup of black coffee|"
        "an old wooden bridge|the whole family photo|much better music",
        "for the first time|in the middle of November|from top to bottom|before breakfast|"
        "without any problem|on the way home|because it is possible|and that makes me happy|"
        "with both hands|above the river|by the end of March|but perhaps you disagree|"
        "as far as I remember|in front of the house|so let me show you",
    ),
    "de": (
        "also|natürlich|ehrlich gesagt|wie Sie wissen|jeden Morgen|vielleicht|übrigens|pass auf|"
        "vor allem|am Anfang",
        "bauen wir|kaufte meine Mutter|malen die Kinder|brauchen viele Menschen|fand mein Bruder|"
        "bringt man|probieren wir|beobachten sie|messen wir|mag ich",
        "ein großes Boot|den blauen Baum|fünf Bücher|eine warme Suppe|das beste Problem|"
        "ein Paket voller Papier|die ganze Familie|eine Karte vom Berg|mehr Musik|alte Möbel",
        "im Sommer|vor dem Frühstück|mit beiden Händen|von oben bis unten|ohne Probleme|"
        "am Ende der Woche|auf dem Weg nach Hause|wie immer|über dem Fluss|zum ersten Mal",
    ),
    "fr": (
        "alors|bien sûr|franchement|comme vous savez|chaque matin|peut-être|au fait|avant tout|"
        "au début|par exemple",
        "nous bougeons|ma mère préfère|ils ont peint|personne n'oublie|vous apportez|"
        "mon ami a trouvé|on mesure|j'aime beaucoup|elle imagine|nous commençons par",
        "une belle maison|le bateau bleu|cinq ou six pommes|un très bon problème|la musique|"
        "le meilleur numéro|du pain et du beurre|une photo de famille|un vieux pont|le piano",
        "pour la première fois|au milieu du mois|de haut en bas|avant le repas|sans problème|"
        "avec les deux mains|sur le chemin|en été|parce que c'est possible|devant la fenêtre",
    ),
    "es": (
        "bueno|por supuesto|la verdad|como sabes|cada mañana|quizás|por cierto|mira|primero|"
        "en mi familia",
        "movemos|mi madre compró|ellos pintaron|nadie olvida|yo prefiero|mi amigo busca|"
        "construimos|ella imagina|medimos|vamos a probar",
        "un barco azul|la mejor música|cinco o seis manzanas|un problema bonito|el mapa|"
        "una foto de la familia|el pan y la mantequilla|un puente viejo|mucho papel|el piano",
        "por primera vez|en verano|de arriba abajo|antes de comer|sin problemas|"
        "con las dos manos|en el camino|porque es posible|a fin de mes|delante de la ventana",
    ),
    "it": (
        "allora|certo|davvero|come sapete|ogni mattina|forse|a proposito|prima di tutto|guarda|"
        "nella mia famiglia",
        "muoviamo|mia madre ha comprato|hanno dipinto|nessuno ricorda|io preferisco|"
        "il mio amico prova|costruiamo|lei immagina|misuriamo|vogliamo portare",
        "una barca blu|la musica migliore|cinque o sei mele|un bel problema|la mappa del monte|"
        "una foto di famiglia|il pane e il burro|un vecchio ponte|molta carta|il pianoforte",
        "per la prima volta|in estate|da cima a fondo|prima di mangiare|senza problemi|"
        "con tutte e due le mani|per strada|perché è possibile|a fine mese|davanti alla finestra",
    ),
    "pt-br": (
        "bom|claro|na verdade|como você sabe|toda manhã|talvez|aliás|primeiro|olha|"
        "na minha família",
        "movemos|minha mãe comprou|eles pintaram|ninguém lembra|eu prefiro|meu amigo busca|"
        "vamos medir|ela imagina|queremos provar|a gente precisa de",
        "um barco azul|a melhor música|cinco ou seis maçãs|um problema bonito|o mapa do monte|"
        "uma foto de família|pão com manteiga|uma ponte velha|muito papel|o piano",
        "pela primeira vez|no verão|de cima a baixo|antes de comer|sem problema|"
        "com as duas mãos|no caminho|porque é possível|no fim do mês|em frente da janela",
    ),
    "nl": (
        "nou|natuurlijk|eerlijk gezegd|zoals je weet|elke morgen|misschien|trouwens|kijk|"
        "vooral|om te beginnen",
        "bouwen we|kocht mijn moeder|verven ze|vergeet niemand|vond mijn broer|meten wij|"
        "proberen we|beweegt hij|brengt zij|hebben veel mensen",
        "een blauwe boot|de beste muziek|vijf appels|een mooi probleem|een kaart van de berg|"
        "een foto van de familie|brood met boter|een oude brug|veel papier|de piano",
        "voor de eerste keer|in de zomer|van boven naar beneden|voor het ontbijt|"
        "zonder problemen|met beide handen|op weg naar huis|aan het einde van de maand|"
        "bij het raam|net als vroeger",
    ),
    "pl": (
        "no dobrze|oczywiście|prawdę mówiąc|jak wiesz|co rano|być może|przede wszystkim|popatrz|"
        "na początku|w mojej rodzinie",
        "budujemy|mama kupiła|oni malują|nikt nie pamięta|wolę|mój brat znalazł|mierzymy|"
        "próbujemy|ona wymyśla|ludzie potrzebują",
        "niebieską łódź|lepszą muzykę|pięć jabłek|piękny problem|mapę tej góry|zdjęcie rodziny|"
        "chleb z masłem|stary most|dużo papieru|mały pokój",
        "po raz pierwszy|latem|od góry do dołu|przed śniadaniem|bez problemu|obiema rękami|"
        "po drodze do domu|pod koniec miesiąca|przy oknie|jak zawsze",
    ),
}
LANGUAGES = tuple(_PHRASES)


def write_sentence(language: str, rng: np.random.Generator) -> str:
    """Writes a sentence, of which there are some ten thousand in each language.

    Args:
      language: one of `LANGUAGES`, or a variety of one, such as "en-us".
      rng: source of randomness.
    """
    opening, clause, thing, ending = (str(rng.choice(options)) for options in _options(language))
    parts = [clause, thing]
    if rng.random() < 0.5:
        parts.insert(0, opening + ",")
    if rng.random() < 0.6:
        parts.append(ending)
    sentence = " ".join(parts)
    return sentence[0].upper() + sentence[1:] + str(rng.choice([".", ".", ".", "!", "?"]))


def _options(language: str) -> Sequence[list[str]]:
    name = language if language in _PHRASES else language.split("-")[0]
    return [column.split("|") for column in _PHRASES[name]]
